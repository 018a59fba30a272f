//! libav's log: silent on the terminal, with the last few error lines kept for a failed attempt's report.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Mutex;

use ffmpeg_next::ffi;

/// Lines kept; a stray file can make libav write thousands.
const LINES: usize = 32;
/// Bytes kept of one line.
const LINE_BYTES: usize = 200;
/// The largest single allocation libav may make: an 8K 10-bit picture takes 100 MB.
const MAX_ALLOCATION_BYTES: usize = 320 << 20;

/// One line of libav's log, with control characters removed.
pub type LogLine = String;

static KEPT: Mutex<Vec<LogLine>> = Mutex::new(Vec::new());

#[cfg(target_arch = "x86_64")]
type Arguments = *mut ffi::__va_list_tag;
#[cfg(not(target_arch = "x86_64"))]
type Arguments = ffi::va_list;

/// Silences libav for the process, keeps its last error lines and caps its allocations. Call once at start.
pub fn quiet() {
    // SAFETY: both calls only set process-wide values; the callback lives as long as the process.
    unsafe {
        ffi::av_log_set_callback(Some(keep));
        ffi::av_max_alloc(MAX_ALLOCATION_BYTES);
    }
}

/// The last error lines since the previous call, oldest first.
pub fn take_log() -> Vec<LogLine> {
    KEPT.lock().map(|mut kept| std::mem::take(&mut *kept)).unwrap_or_default()
}

unsafe extern "C" fn keep(context: *mut c_void, level: c_int, format: *const c_char, arguments: Arguments) {
    if level > ffi::AV_LOG_ERROR {
        return;
    }
    let mut line = [0u8; LINE_BYTES];
    let mut prefix: c_int = 1;
    // SAFETY: all arguments are libav's own, passed through for the time of this call; the line buffer is
    // writable for the length given and is terminated by the callee.
    unsafe {
        ffi::av_log_format_line2(
            context,
            level,
            format,
            arguments,
            line.as_mut_ptr().cast(),
            LINE_BYTES as c_int,
            &mut prefix,
        );
    }
    let Ok(text) = CStr::from_bytes_until_nul(&line) else { return };
    let text: String = text.to_string_lossy().chars().filter(|c| !c.is_control()).collect();
    if let Ok(mut kept) = KEPT.lock() {
        if kept.len() == LINES {
            kept.remove(0);
        }
        kept.push(text);
    }
}
