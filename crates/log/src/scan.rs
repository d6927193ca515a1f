//! Reads the segments of one replica and finds out where each of them ends.
//!
//! Three things look alike at the end of a file, and only one of them may be refused:
//!
//! - A **torn tail**: the process or the machine died before the last write was synced. Nothing in it was confirmed.
//! - A **superseded tail**: a write or sync failed, so the records were written again to the next segment, whose header
//!   says where it takes over. What the failed segment holds from there on, whole or not, does not count.
//! - **Damage**: a record that had been synced is no longer what it was.
//!
//! Every frame says where the write began that it belongs to, and a write begins only after the one before it was
//! synced. So a bad frame is damage when any later frame belongs to a write that began after it, and a torn tail when
//! none does: a machine that loses power may have kept the end of its last write and lost the middle.

use std::fs;
use std::io;

use crate::folder::Name;
use crate::frame::{Fault, Frame, HEADER_BYTES, Header, NO_HASH};
use crate::{Error, FrameHash};

/// The segments of one replica, in order.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) segments: Vec<Segment>,
}

/// What one segment holds.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) name: Name,
    /// `None` where the header is damaged or was never completed.
    pub(crate) header: Option<Header>,
    /// Every whole record that counts.
    pub(crate) frames: Vec<Found>,
    /// Where the last of them ends; 0 when there is no header.
    pub(crate) end: usize,
    /// How long the file is.
    pub(crate) length: usize,
    pub(crate) tail: Tail,
    pub(crate) damage: Vec<Damage>,
}

/// One whole frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) offset: usize,
    pub(crate) sequence: u64,
    pub(crate) more: u32,
    pub(crate) hash: FrameHash,
}

/// What lies between the end of the records and the end of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Nothing.
    None,
    /// A write that was cut short.
    Torn,
    /// Records that the next segment holds again.
    Superseded,
}

/// One thing that should not be.
#[derive(Debug)]
pub(crate) struct Damage {
    pub(crate) offset: usize,
    pub(crate) what: String,
}

/// The state of one segment's walk.
struct Walk<'a> {
    bytes: &'a [u8],
    offset: usize,
    sequence: u64,
    hash: FrameHash,
    /// How many frames of the batch begun are still to come.
    open: u32,
    segment: Segment,
}

// === impl Scan ===

impl Scan {
    /// Reads the segments of one replica, named in order, and calls `visit` with each file's bytes.
    ///
    /// A file that has gone meanwhile has been shipped, and is left out.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when a file cannot be read.
    pub(crate) fn read(
        names: &[Name],
        mut visit: impl FnMut(&Segment, &[u8]),
    ) -> Result<Self, Error> {
        let mut headers = Vec::with_capacity(names.len());
        for name in names {
            headers.push(peek(name)?);
        }
        let mut segments = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            let next = headers.iter().skip(index + 1).find_map(|header| *header);
            if let Some(bytes) =
                present(fs::read(&name.path)).map_err(Error::io("read", &name.path))?
            {
                let segment = Segment::read(name, &bytes, next.as_ref());
                visit(&segment, &bytes);
                segments.push(segment);
            }
        }
        Ok(Self { segments })
    }
}

/// Reads the header alone; `None` where it is not whole or the file has gone.
fn peek(name: &Name) -> Result<Option<Header>, Error> {
    let read = || {
        use io::Read as _;
        let mut head = Vec::with_capacity(HEADER_BYTES);
        fs::File::open(&name.path)?
            .take(HEADER_BYTES as u64)
            .read_to_end(&mut head)?;
        Ok(head)
    };
    let head = present(read()).map_err(Error::io("read", &name.path))?;
    Ok(head.and_then(|head| Header::read(&head).ok()))
}

fn present<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

// === impl Segment ===

impl Segment {
    /// Walks one segment; `next` is the header of the segment after it, which says where this one must end.
    pub(crate) fn read(name: &Name, bytes: &[u8], next: Option<&Header>) -> Self {
        let mut segment = Self {
            name: name.clone(),
            header: None,
            frames: Vec::new(),
            end: 0,
            length: bytes.len(),
            tail: Tail::None,
            damage: Vec::new(),
        };
        let header = match Header::read(bytes) {
            Ok(header) => header,
            // The header is synced before the first frame is written: without more there was never a record here.
            Err(_) if bytes.len() <= HEADER_BYTES => {
                segment.tail = if bytes.is_empty() {
                    Tail::None
                } else {
                    Tail::Torn
                };
                return segment;
            }
            Err(what) => {
                segment.harm(0, what);
                return segment;
            }
        };
        if (header.replica, header.number) != (name.replica, name.number) {
            segment.harm(
                0,
                "the header names another segment than the file's name does",
            );
        }
        if header.first == 1 && header.previous != NO_HASH {
            segment.harm(0, "the first segment of a replica names a record before it");
        }
        segment.header = Some(header);
        segment.end = HEADER_BYTES;
        let mut walk = Walk {
            bytes,
            offset: HEADER_BYTES,
            sequence: header.first.wrapping_sub(1),
            hash: header.previous,
            open: 0,
            segment,
        };
        walk.run(next);
        walk.segment
    }

    /// Returns how many bytes lie after the records.
    pub(crate) fn tail_bytes(&self) -> u64 {
        (self.length - self.end.min(self.length)) as u64
    }

    fn harm(&mut self, offset: usize, what: impl Into<String>) {
        self.damage.push(Damage {
            offset,
            what: what.into(),
        });
    }
}

// === impl Walk ===

impl Walk<'_> {
    fn run(&mut self, next: Option<&Header>) {
        let stop = next.map(|next| next.first.wrapping_sub(1));
        while stop.is_none_or(|stop| self.sequence < stop) && self.offset < self.bytes.len() {
            let bytes = self.bytes;
            match Frame::read(bytes.get(self.offset..).unwrap_or_default()) {
                Ok(frame) => self.take(&frame),
                Err(fault) => match self.resume(fault, stop.is_some()) {
                    Some(offset) => self.offset = offset,
                    None => break,
                },
            }
        }
        match next {
            Some(next) => self.meet(next),
            None => self.drop_open_batch(),
        }
        let segment = &mut self.segment;
        if segment.end < segment.length && segment.damage.is_empty() {
            segment.tail = if next.is_some() {
                Tail::Superseded
            } else {
                Tail::Torn
            };
        }
    }

    /// Takes a frame whose checksum is right, and checks that it belongs here.
    fn take(&mut self, frame: &Frame<'_>) {
        let expected = self.sequence.wrapping_add(1);
        let (sequence, offset) = (frame.place.sequence, self.offset);
        if sequence == 0 {
            // What follows `u64::MAX` too; nothing counts records from here on without going below it.
            self.segment
                .harm(offset, "a record has number 0, and the first is 1");
        } else if sequence != expected {
            let what = format!("expected record {expected} and found record {sequence}");
            self.segment.harm(offset, what);
        } else if frame.place.previous != self.hash {
            let what = format!("record {sequence} does not continue the hash chain");
            self.segment.harm(offset, what);
        }
        if self.open > 0 && self.open - 1 != frame.place.more {
            let what = format!("record {sequence} breaks into the batch before it");
            self.segment.harm(offset, what);
        }
        self.open = frame.place.more;
        self.sequence = sequence;
        self.hash = frame.hash();
        self.offset += frame.size();
        self.segment.end = self.offset;
        self.segment.frames.push(Found {
            offset,
            sequence,
            more: frame.place.more,
            hash: self.hash,
        });
    }

    /// Decides what a bad frame is: returns where to read on, after damage, or `None` for the end of the records.
    fn resume(&mut self, fault: Fault, must_go_on: bool) -> Option<usize> {
        let bad = self.offset;
        let mut first = None;
        let mut later = false;
        let mut offset = bad + 1;
        while !later && offset < self.bytes.len() {
            let Some(frame) = self.candidate(offset) else {
                offset += 1;
                continue;
            };
            first = first.or(Some((offset, frame.place.sequence, frame.place.previous)));
            later = frame.place.commit > bad as u64;
            offset += frame.size();
        }
        if !later && !must_go_on {
            return None;
        }
        self.segment.harm(bad, fault.what());
        // One break is one problem: what was lost in it is not reported again as a gap.
        let (offset, sequence, previous) = first?;
        self.sequence = sequence.wrapping_sub(1);
        self.hash = previous;
        self.open = 0;
        self.segment.end = offset;
        Some(offset)
    }

    /// Returns the whole frame at `offset` that could stand in this segment after the one read last.
    fn candidate(&self, offset: usize) -> Option<Frame<'_>> {
        let rest = self.bytes.get(offset..)?;
        let (sequence, commit) = Frame::guess(rest)?;
        let span = self.bytes.len() as u64;
        let near = sequence > self.sequence && sequence - self.sequence <= span;
        if !near || commit > offset as u64 {
            return None;
        }
        Frame::read(rest).ok()
    }

    /// Checks that this segment leads up to the next one.
    fn meet(&mut self, next: &Header) {
        let end = self.segment.end;
        if self.sequence != next.first.wrapping_sub(1) {
            let what = format!(
                "the segment ends after record {} and the next one begins with record {}",
                self.sequence, next.first
            );
            // A break that was reported already may be why.
            if self.segment.damage.is_empty() {
                self.segment.harm(end, what);
            }
        } else if self.hash != next.previous {
            self.segment
                .harm(end, "the next segment does not continue the hash chain");
        }
    }

    /// Takes back the frames of a batch that is not whole: it was one write, so it was never confirmed.
    fn drop_open_batch(&mut self) {
        let frames = &mut self.segment.frames;
        if frames.last().is_none_or(|last| last.more == 0) {
            return;
        }
        while let Some(open) = frames.pop_if(|frame| frame.more > 0) {
            self.segment.end = open.offset;
        }
    }
}
