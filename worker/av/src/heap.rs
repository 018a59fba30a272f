//! The C library's heap.

/// Blocks of this size and more, in bytes, are mapped each by itself.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const BIG: libc::c_int = 1 << 20;

/// From now on, what this process frees of big blocks goes back to the system at once. Left to itself glibc learns from the first
/// one that is freed to keep them on its heap, where what they leave behind lies between small ones that are still there: twice
/// what is in use, after two hours of a source. Other C libraries have no such heap.
pub fn give_big_blocks_back() {
    // SAFETY: it takes two numbers, and may be called at any time.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, BIG);
    }
}

#[cfg(test)]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    const BLOCK: usize = 8 << 20;

    fn resident_bytes() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<usize>().unwrap() << 10
    }

    #[test]
    fn what_lay_between_small_ones_goes_back() {
        give_big_blocks_back();
        // From the first one that is freed glibc would learn.
        drop(vec![1u8; BLOCK]);
        let before = resident_bytes();
        let (blocks, small): (Vec<_>, Vec<_>) = (0..16).map(|_| (vec![1u8; BLOCK], vec![1u8; 1000])).unzip();
        assert!(resident_bytes() >= before + 16 * BLOCK);
        drop(blocks);
        assert!(resident_bytes() < before + BLOCK, "it is kept");
        drop(small);
    }
}
