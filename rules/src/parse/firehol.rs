//! FireHOL `*.netset` and `*.ipset`: a line an address or network, and a comment that says how many
//! there are.

use super::{Limits, ParseFailure, Parsed, plain, reader::Ending};

pub(super) fn read(text: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    plain::read_lines(text, limits, Ending::Count)
}
