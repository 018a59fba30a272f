//! Any sound to planar stereo floats at the output rate.

use std::ptr::{self, NonNull};

use ffmpeg_next::ffi;
use reelmill_media::time::Timescale;

use crate::error::{AvError, check};
use crate::frame::Frame;

/// The most samples of output accepted for one input frame.
const MAX_SAMPLES: i32 = 1 << 22;

/// Two channels of equal length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stereo {
    /// Left.
    pub left: Vec<f32>,
    /// Right.
    pub right: Vec<f32>,
}

/// Converts layout, format and rate. Built from the first frame, and anew when frames change.
pub struct Resampler {
    rate: Timescale,
    built: Option<(Input, Swr)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Input {
    format: i32,
    rate: u32,
    channels: i32,
    mask: u64,
}

struct Swr(NonNull<ffi::SwrContext>);

// SAFETY: a resampler has no ties to a thread, and we own it alone.
unsafe impl Send for Swr {}

impl Drop for Swr {
    fn drop(&mut self) {
        let mut raw = self.0.as_ptr();
        // SAFETY: we own it.
        unsafe { ffi::swr_free(&mut raw) };
    }
}

impl Resampler {
    /// Output at `rate` samples per second.
    pub fn new(rate: Timescale) -> Self {
        Self { rate, built: None }
    }

    /// Converts one frame without its first `skip` samples and appends to `out`. When rates differ, some samples stay
    /// inside until [`Self::flush`].
    pub fn push(&mut self, frame: &Frame, skip: usize, out: &mut Stereo) -> Result<(), AvError> {
        let input = Input::of(frame);
        if self.built.as_ref().is_none_or(|(built, _)| *built != input) {
            self.flush(out)?;
            self.built = Some((input, self.build(frame, input)?));
        }
        let left = frame.samples().saturating_sub(skip);
        if left == 0 {
            return Ok(());
        }
        let raw = frame.raw();
        let format = sample_format(raw.format)?;
        let channels = usize::try_from(raw.ch_layout.nb_channels).unwrap_or(0);
        // SAFETY: both only look the format up.
        let (bytes, planar) =
            unsafe { (ffi::av_get_bytes_per_sample(format), ffi::av_sample_fmt_is_planar(format) != 0) };
        let step = usize::try_from(bytes).unwrap_or(0) * if planar { 1 } else { channels };
        let count = if planar { channels } else { 1 };
        // SAFETY: a decoded audio frame has `count` planes of nb_samples times `step` bytes, and `skip` is less than
        // nb_samples.
        let mut planes: Vec<*const u8> = unsafe {
            (0..count).map(|i| (*raw.extended_data.add(i)).cast_const().add(skip * step)).collect()
        };
        self.convert(planes.as_mut_ptr(), left as i32, out)
    }

    /// Appends what is still inside; pushing may go on after it with a new stretch of sound.
    pub fn flush(&mut self, out: &mut Stereo) -> Result<(), AvError> {
        if self.built.is_some() {
            self.convert(ptr::null_mut(), 0, out)?;
            self.built = None;
        }
        Ok(())
    }

    fn convert(&mut self, input: *mut *const u8, samples: i32, out: &mut Stereo) -> Result<(), AvError> {
        let Some((_, swr)) = &mut self.built else { return Ok(()) };
        // SAFETY: an initialised resampler.
        let room =
            check("swr_get_out_samples", unsafe { ffi::swr_get_out_samples(swr.0.as_ptr(), samples) })?;
        if room > MAX_SAMPLES {
            return Err(AvError::OutOfRange { what: "resampled length in samples", value: i64::from(room) });
        }
        let start = out.left.len();
        out.left.resize(start + room as usize, 0.0);
        out.right.resize(start + room as usize, 0.0);
        let mut planes =
            [out.left[start..].as_mut_ptr().cast::<u8>(), out.right[start..].as_mut_ptr().cast::<u8>()];
        // SAFETY: both planes have room for `room` floats; the input is as the caller says, null meaning the end.
        let code = unsafe { ffi::swr_convert(swr.0.as_ptr(), planes.as_mut_ptr(), room, input, samples) };
        let made = code.max(0) as usize;
        out.left.truncate(start + made);
        out.right.truncate(start + made);
        check("swr_convert", code).map(drop)
    }

    fn build(&self, frame: &Frame, input: Input) -> Result<Swr, AvError> {
        let format = sample_format(input.format)?;
        let mut raw = ptr::null_mut();
        // SAFETY: both layouts are initialised before use and hold no allocation (native order or copied by the
        // callee); the context is owned by the `Swr` before anything can fail.
        unsafe {
            let (mut from, mut to): (ffi::AVChannelLayout, ffi::AVChannelLayout) =
                (std::mem::zeroed(), std::mem::zeroed());
            ffi::av_channel_layout_default(&mut to, 2);
            if frame.raw().ch_layout.order == ffi::AVChannelOrder::AV_CHANNEL_ORDER_NATIVE {
                check(
                    "av_channel_layout_from_mask",
                    ffi::av_channel_layout_from_mask(&mut from, input.mask),
                )?;
            } else {
                ffi::av_channel_layout_default(&mut from, input.channels);
            }
            let code = ffi::swr_alloc_set_opts2(
                &mut raw,
                &mut to,
                ffi::AVSampleFormat::AV_SAMPLE_FMT_FLTP,
                i32::try_from(self.rate.get()).unwrap_or(i32::MAX),
                &mut from,
                format,
                i32::try_from(input.rate).unwrap_or(0),
                0,
                ptr::null_mut(),
            );
            check("swr_alloc_set_opts2", code)?;
        }
        let swr = Swr(NonNull::new(raw).ok_or(AvError::NoMemory("swr_alloc_set_opts2"))?);
        // Levels must not hang on how the source's samples are written: libav's mix of integers is softer than of floats.
        // It puts mono on both sides at -3 dB; players put it there as it is.
        let volume = if input.channels == 1 { std::f64::consts::SQRT_2 } else { 1.0 };
        // SAFETY: an allocated resampler, which has these options; names are terminated constants.
        unsafe {
            let options = swr.0.as_ptr().cast();
            let float = ffi::AVSampleFormat::AV_SAMPLE_FMT_FLTP;
            check(
                "av_opt_set_sample_fmt",
                ffi::av_opt_set_sample_fmt(options, c"internal_sample_fmt".as_ptr(), float, 0),
            )?;
            check(
                "av_opt_set_double",
                ffi::av_opt_set_double(options, c"rematrix_volume".as_ptr(), volume, 0),
            )?;
        }
        // SAFETY: an allocated resampler.
        check("swr_init", unsafe { ffi::swr_init(swr.0.as_ptr()) })?;
        Ok(swr)
    }
}

impl Input {
    fn of(frame: &Frame) -> Self {
        let raw = frame.raw();
        let native = raw.ch_layout.order == ffi::AVChannelOrder::AV_CHANNEL_ORDER_NATIVE;
        // SAFETY: the mask is the union's active member when the order is native.
        let mask = if native { unsafe { raw.ch_layout.u.mask } } else { 0 };
        Self { format: raw.format, rate: frame.sample_rate(), channels: raw.ch_layout.nb_channels, mask }
    }
}

fn sample_format(format: i32) -> Result<ffi::AVSampleFormat, AvError> {
    use ffi::AVSampleFormat as F;
    [
        F::AV_SAMPLE_FMT_U8,
        F::AV_SAMPLE_FMT_S16,
        F::AV_SAMPLE_FMT_S32,
        F::AV_SAMPLE_FMT_FLT,
        F::AV_SAMPLE_FMT_DBL,
        F::AV_SAMPLE_FMT_U8P,
        F::AV_SAMPLE_FMT_S16P,
        F::AV_SAMPLE_FMT_S32P,
        F::AV_SAMPLE_FMT_FLTP,
        F::AV_SAMPLE_FMT_DBLP,
    ]
    .into_iter()
    .find(|f| *f as i32 == format)
    .ok_or(AvError::OutOfRange { what: "sample format", value: i64::from(format) })
}
