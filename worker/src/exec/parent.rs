//! The child's end of the conversation, and the source as it is seen through it.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex};

use reelmill_media::task::{Failure, FailureCode};

use super::protocol::{FromChild, MAX_READ_BYTES, ToChild, read_message, write_message};
use crate::mp4::read::ReadAt;

/// How far sequential readers read ahead, in bytes.
pub const READ_AHEAD_BYTES: usize = 1 << 20;

/// The two pipes. One thread uses them; the lock is for libav's I/O callbacks, which must be `Send`.
#[derive(Clone)]
pub struct Parent(Arc<Mutex<Pipes>>);

struct Pipes {
    from: Box<dyn Read + Send>,
    to: Box<dyn Write + Send>,
    /// Why bytes that were asked for did not come.
    lost: Option<String>,
}

impl Parent {
    /// Speaks over these.
    pub fn new(from: impl Read + Send + 'static, to: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Pipes { from: Box::new(from), to: Box::new(to), lost: None })))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Pipes) -> io::Result<T>) -> io::Result<T> {
        let mut pipes = self.0.lock().map_err(|_| io::Error::other("the pipes were left in a bad state"))?;
        act(&mut pipes)
    }

    /// Waits for a message; `None` when the parent is gone.
    pub fn hear(&self) -> io::Result<Option<ToChild>> {
        self.with(|p| read_message(&mut p.from))
    }

    /// Sends a message.
    pub fn say(&self, message: &FromChild) -> Result<(), Failure> {
        self.with(|p| write_message(&mut p.to, message)).map_err(|e| Failure {
            code: FailureCode::Internal,
            reason: format!("the parent cannot be written to: {e}"),
        })
    }

    /// Asks for one range, which must lie in the source; gives the beginning of it that is there.
    fn fetch(&self, offset: u64, len: u32) -> io::Result<Vec<u8>> {
        self.with(|p| {
            let answer = p.ask(offset, len);
            p.lost = p.lost.take().or(answer.as_ref().err().map(ToString::to_string));
            answer
        })
    }

    /// Fails when bytes did not come. What was made since then, or said of the source, is not to be believed: libav
    /// takes a failed read for the end of the file.
    pub fn came_through(&self) -> Result<(), Failure> {
        let lost = self.with(|p| Ok(p.lost.clone())).unwrap_or_else(|error| Some(error.to_string()));
        match lost {
            None => Ok(()),
            Some(why) => Err(Failure {
                code: FailureCode::Internal,
                reason: format!("the source could not be read: {why}"),
            }),
        }
    }
}

impl Pipes {
    fn ask(&mut self, offset: u64, len: u32) -> io::Result<Vec<u8>> {
        write_message(&mut self.to, &FromChild::Read { offset, len })?;
        match read_message(&mut self.from)? {
            Some(ToChild::Bytes(bytes)) if (1..=len as usize).contains(&bytes.len()) => Ok(bytes),
            Some(ToChild::Bytes(_)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(ToChild::ReadFailed(reason)) => Err(io::Error::other(reason)),
            Some(ToChild::Job(_)) | None => Err(io::Error::other("the parent is gone")),
        }
    }
}

/// The source, read through a window that moves with the reader.
pub struct Input {
    parent: Parent,
    length: u64,
    /// Reading ahead never goes past this byte.
    limit: u64,
    read_ahead: usize,
    window: Vec<u8>,
    window_at: u64,
    position: u64,
}

impl Input {
    /// A source of `length` bytes, read ahead by `read_ahead` bytes at most.
    pub fn new(parent: &Parent, length: u64, read_ahead: usize) -> Self {
        let parent = parent.clone();
        Self { parent, length, limit: length, read_ahead, window: Vec::new(), window_at: 0, position: 0 }
    }

    /// Has reading ahead stop at byte `limit`.
    pub fn read_ahead_to(&mut self, limit: u64) {
        self.limit = limit.min(self.length);
    }

    /// The bytes from `offset` on that the window holds.
    fn held(&self, offset: u64) -> &[u8] {
        let skip = offset.checked_sub(self.window_at).and_then(|n| usize::try_from(n).ok());
        skip.and_then(|n| self.window.get(n..)).unwrap_or_default()
    }

    /// Moves the window so that it starts at `offset`, which lies in the source, and holds `want` bytes if it can.
    fn move_to(&mut self, offset: u64, want: usize) -> io::Result<()> {
        let ahead = self.limit.saturating_sub(offset).min(self.read_ahead as u64);
        let len = ahead.max(want as u64).min(self.length - offset).min(u64::from(MAX_READ_BYTES));
        self.window = self.parent.fetch(offset, len as u32)?;
        self.window_at = offset;
        Ok(())
    }
}

impl ReadAt for Input {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&mut self, mut offset: u64, mut to: &mut [u8]) -> io::Result<()> {
        while !to.is_empty() {
            if offset >= self.length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if self.held(offset).is_empty() {
                self.move_to(offset, to.len())?;
            }
            let held = self.held(offset);
            let n = held.len().min(to.len());
            to[..n].copy_from_slice(&held[..n]);
            to = &mut to[n..];
            offset += n as u64;
        }
        Ok(())
    }
}

impl Read for Input {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if to.is_empty() || self.position >= self.length {
            return Ok(0);
        }
        if self.held(self.position).is_empty() {
            self.move_to(self.position, 1)?;
        }
        let held = self.held(self.position);
        let n = held.len().min(to.len());
        to[..n].copy_from_slice(&held[..n]);
        self.position += n as u64;
        Ok(n)
    }
}

impl Seek for Input {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}
