//! FireHOL `*.netset` and `*.ipset`: a line an address or network, and a comment that says how many
//! there are.

use super::{Limits, ParseFailure, Parsed, pieces, plain, reader::Ending};

pub(super) fn read(text: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    pieces::read(text, limits, Ending::Count, plain::row)
}
