//! Field sections (RFC 9204) by the static table alone: nothing is kept between them, and none waits for another.

mod decode;
mod encode;
mod huffman;
mod static_table;

pub(super) use decode::Fields;
pub(super) use encode::encode;
