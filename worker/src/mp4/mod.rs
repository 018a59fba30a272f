//! MP4, read and written without libav.
