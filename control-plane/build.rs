//! Builds the XDP program and leaves its object at `$OUT_DIR/sekisho-xdp`, to be embedded.

use std::process::ExitCode;

use sekisho_xdp_build::{Object, embed};

fn main() -> ExitCode {
    embed(&Object {
        package: "sekisho-xdp",
        sources: &["xdp-prog"],
        brought_by: Some("SEKISHO_BPF_OBJECT"),
    })
}
