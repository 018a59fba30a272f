//! The frame number as a picture: lost, doubled and swapped frames are proved, not inferred from counts.
//!
//! Two rows of 20 cells fill the top sixth of the picture: sync `10`, 16 bits, sync `11`. The lower row is the
//! complement of the upper one, so a bit is the sign of a difference: no level, range or tone curve disturbs it,
//! and a picture without a barcode reads as none.

use std::ffi::{OsStr, OsString};
use std::io::{BufReader, Read};
use std::ops::Range;
use std::process::{Command, Stdio};

use crate::fixtures::ffmpeg;

const CELLS: usize = 20;
/// The two rows take 2/12 of the height.
const ROWS_PER_HEIGHT: usize = 12;
const WHITE: u8 = 235;
const BLACK: u8 = 16;

/// Frames are shrunk to cells of 8 x 8 before they are read.
const CELL_PX: usize = 8;
const READ_WIDTH: usize = CELLS * CELL_PX;
const READ_HEIGHT: usize = ROWS_PER_HEIGHT * CELL_PX;
const SHRINK: &str = "scale=160:96:flags=area,format=gray";
/// Of the 219 steps between black and white. Real bits stay above 150 even at CRF 40.
const LEAST_DIFFERENCE: i32 = 60;

/// The number of frames that 16 bits can tell apart.
pub const MOST_FRAMES: u32 = 1 << 16;

/// Rows of luma that the barcode covers in a picture of this height.
pub(crate) fn barcode_rows(height: usize) -> usize {
    2 * (height / ROWS_PER_HEIGHT)
}

/// Draws the barcode into a luma plane, at least 160 pixels wide and 96 high to be read again.
pub fn draw(luma: &mut [u8], width: usize, height: usize, frame: u32) {
    assert!(frame < MOST_FRAMES, "the barcode has 16 bits");
    let row_height = height / ROWS_PER_HEIGHT;
    let code = (0b10 << 18) | (frame << 2) | 0b11;
    for (y, line) in luma.chunks_exact_mut(width).take(2 * row_height).enumerate() {
        for cell in 0..CELLS {
            let bit = code >> (CELLS - 1 - cell) & 1 == 1;
            let upper = y < row_height;
            line[cell_span(cell, width)].fill(if bit == upper { WHITE } else { BLACK });
        }
    }
}

fn cell_span(cell: usize, width: usize) -> Range<usize> {
    width * cell / CELLS..width * (cell + 1) / CELLS
}

/// Reads the frame number of a shrunk gray picture.
fn read(gray: &[u8]) -> Option<u32> {
    let mut code = 0;
    for cell in 0..CELLS {
        let difference = cell_mean(gray, cell, 0) - cell_mean(gray, cell, 1);
        if difference.abs() < LEAST_DIFFERENCE {
            return None;
        }
        code = code << 1 | u32::from(difference > 0);
    }
    (code >> 18 == 0b10 && code & 0b11 == 0b11).then_some(code >> 2 & 0xffff)
}

/// The mean of a cell's middle, away from its blurred edges.
fn cell_mean(gray: &[u8], cell: usize, row: usize) -> i32 {
    let middle = CELL_PX / 4..CELL_PX * 3 / 4;
    let mut sum = 0;
    for y in middle.clone() {
        for x in middle.clone() {
            sum += i32::from(gray[(row * CELL_PX + y) * READ_WIDTH + cell * CELL_PX + x]);
        }
    }
    sum / i32::try_from(middle.len() * middle.len()).unwrap()
}

/// Decodes a file or address with the ffmpeg program and reads each frame's number; `None` where a frame has none.
///
/// `rotation` is the source's, in degrees clockwise: display turns the barcode along with the picture, in the source
/// as in what is made from it, so the reader turns it back.
pub fn read_barcodes(media: impl AsRef<OsStr>, rotation: i32) -> Vec<Option<u32>> {
    read_barcodes_with(&["-i".into(), media.as_ref().to_owned()], rotation)
}

/// As [`read_barcodes`], with all of ffmpeg's input arguments up to and including `-i ADDRESS`, and optionally a
/// `-map` of one video stream.
pub fn read_barcodes_with(input: &[OsString], rotation: i32) -> Vec<Option<u32>> {
    let turn_back = match rotation {
        0 => "",
        90 => "transpose=cclock,",
        180 => "hflip,vflip,",
        270 => "transpose=clock,",
        _ => panic!("{rotation} is not a rotation by quarter turns"),
    };
    let mut command = Command::new(ffmpeg());
    command.args(["-nostdin", "-v", "error"]).args(input);
    if !input.iter().any(|argument| argument == "-map") {
        command.args(["-map", "0:v:0"]);
    }
    command.arg("-vf").arg(format!("{turn_back}{SHRINK}"));
    read_pictures(command)
}

/// The numbers of all frames of several files, which are decoded one after another, each by a decoder of its own.
pub fn read_barcodes_of_each(files: &[OsString]) -> Vec<Option<u32>> {
    let mut command = Command::new(ffmpeg());
    command.args(["-nostdin", "-v", "error", "-xerror"]);
    for file in files {
        command.args(["-threads", "1", "-i"]).arg(file);
    }
    let inputs: String = (0..files.len()).map(|n| format!("[{n}:v]")).collect();
    let graph = format!("{inputs}concat=n={},{SHRINK}[out]", files.len());
    command.args(["-filter_complex", &graph, "-map", "[out]"]);
    read_pictures(command)
}

/// Runs ffmpeg and reads the shrunk gray pictures that it puts out.
fn read_pictures(mut command: Command) -> Vec<Option<u32>> {
    let mut child = command
        .args(["-fps_mode", "passthrough", "-f", "rawvideo", "-"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ffmpeg starts");

    let mut pictures = BufReader::new(child.stdout.take().expect("stdout is piped"));
    let mut picture = vec![0; READ_WIDTH * READ_HEIGHT];
    let mut numbers = Vec::new();
    while pictures.read_exact(&mut picture).is_ok() {
        numbers.push(read(&picture));
    }
    let status = child.wait().expect("ffmpeg ends");
    assert!(status.success(), "ffmpeg cannot decode what {command:?} names: {status}");
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws at the size in which pictures are read.
    fn drawn(frame: u32) -> Vec<u8> {
        let mut luma = vec![128; READ_WIDTH * READ_HEIGHT];
        draw(&mut luma, READ_WIDTH, READ_HEIGHT, frame);
        luma
    }

    #[test]
    fn every_number_reads_as_itself() {
        for frame in (0..MOST_FRAMES).step_by(257).chain([MOST_FRAMES - 1]) {
            assert_eq!(read(&drawn(frame)), Some(frame));
        }
    }

    #[test]
    fn a_turned_mirrored_or_missing_barcode_reads_as_none() {
        assert_eq!(read(&vec![128; READ_WIDTH * READ_HEIGHT]), None);
        let rows = barcode_rows(READ_HEIGHT) * READ_WIDTH;
        let mut turned = drawn(5);
        turned[..rows].reverse();
        assert_eq!(read(&turned), None);
        let mut mirrored = drawn(5);
        mirrored.chunks_exact_mut(READ_WIDTH).for_each(<[u8]>::reverse);
        assert_eq!(read(&mirrored), None);
    }
}
