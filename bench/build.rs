//! Builds the bench's own BPF programs and leaves their object at `$OUT_DIR/sekisho-bench-prog`.

use std::process::ExitCode;

use sekisho_xdp_build::{Object, embed};

fn main() -> ExitCode {
    embed(&Object {
        package: "sekisho-bench-prog",
        sources: &["xdp-prog", "bench/prog"],
        brought_by: None,
    })
}
