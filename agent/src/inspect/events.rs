//! The bits of `epoll_event.events` in words (include/uapi/linux/eventpoll.h).

/// Conditions, by their bits.
const WORDS: [(u32, &str); 12] = [
    (0x001, "in"),
    (0x002, "pri"),
    (0x004, "out"),
    (0x008, "err"),
    (0x010, "hup"),
    (0x020, "nval"),
    (0x040, "rdnorm"),
    (0x080, "rdband"),
    (0x100, "wrnorm"),
    (0x200, "wrband"),
    (0x400, "msg"),
    (0x2000, "rdhup"),
];
/// EPOLLWAKEUP.
const WAKEUP: u32 = 1 << 29;
/// Flags that have a field of their own: EPOLLEXCLUSIVE, EPOLLONESHOT, EPOLLET.
const FLAGS: u32 = 1 << 28 | 1 << 30 | 1 << 31;

/// The conditions of a mask, and `wakeup`; bits without a name as a number. The kernel adds err and hup to what was
/// asked for, so they say nothing and are left out.
pub fn words(mask: u32) -> Vec<String> {
    const ALWAYS: u32 = 0x018;
    let mut left = mask & !FLAGS & !ALWAYS;
    let mut words = Vec::new();
    for (bit, word) in WORDS.into_iter().chain([(WAKEUP, "wakeup")]) {
        if left & bit != 0 {
            words.push(word.to_owned());
            left &= !bit;
        }
    }
    if left != 0 {
        words.push(format!("{left:#x}"));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn every_bit_that_was_asked_for_is_shown() {
        assert_eq!(words(0x8000_2019), ["in", "rdhup"]);
        assert_eq!(words(0x2000_0004), ["out", "wakeup"]);
        assert_eq!(words(0x0001_0001), ["in", "0x10000"]);
        assert_eq!(words(0x18), Vec::<String>::new());
    }
}
