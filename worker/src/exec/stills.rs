//! The stills of a job, taken from the pictures that its encoders are given.

use std::iter::Peekable;
use std::slice::Iter;

use reelmill_av::{Frame, OutputColour, StillMaker};
use reelmill_media::task::Failure;

use super::failure::internal;
use super::parent::Parent;
use super::protocol::{FromChild, ImageOutput, Still, VideoJob};

/// Width and height in pixels.
type Size = (u32, u32);

/// What is still to be taken of each rung.
pub struct Stills<'a> {
    parent: &'a Parent,
    colour: OutputColour,
    rungs: Vec<Peekable<Iter<'a, Still>>>,
    /// The maker of the size last used.
    maker: Option<(Size, Size, StillMaker)>,
}

impl<'a> Stills<'a> {
    pub fn new(parent: &'a Parent, job: &'a VideoJob, colour: OutputColour) -> Self {
        // By rung, then as they come; each rung's pictures come in order.
        let rungs = (0..job.rungs.len()).map(|_| job.stills.iter().peekable()).collect();
        Self { parent, colour, rungs, maker: None }
    }

    /// Takes what is planned of picture `at` of rung `rung`.
    pub fn take(&mut self, at: usize, rung: usize, frame: &Frame) -> Result<(), Failure> {
        let planned = |still: &Still| still.at as usize;
        while let Some(still) =
            self.rungs.get_mut(rung).and_then(|stills| stills.next_if(|still| planned(still) <= at))
        {
            if planned(still) == at && still.rung as usize == rung {
                let bytes = self.make(*still, frame)?;
                self.parent.say(&FromChild::Image(ImageOutput { still: *still, bytes }))?;
            }
        }
        Ok(())
    }

    fn make(&mut self, still: Still, frame: &Frame) -> Result<Vec<u8>, Failure> {
        let (from, to) = ((frame.width(), frame.height()), (still.width, still.height));
        let maker = match self.maker.take() {
            Some((known_from, known_to, maker)) if (known_from, known_to) == (from, to) => maker,
            Some(_) | None => StillMaker::open(from, to, self.colour).map_err(internal)?,
        };
        let (_, _, maker) = self.maker.insert((from, to, maker));
        maker.take(frame).map_err(internal)
    }
}
