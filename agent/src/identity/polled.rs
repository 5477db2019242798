//! What a thread asks of the poll or select that it is in, by what /proc says: the call's arguments, and the memory of the
//! process that they point to. Stops and changes nothing. Another thread may rewrite that memory meanwhile, so no length
//! in it is believed; nothing is read where the thread is in no such call.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
};

use loopscope_probe::probe;

use crate::kernel::table::probe_of_call;

/// Entries of a poll that are read at most, and an eighth of the descriptors of a select: 32 KB.
pub const ENTRIES: usize = 4096;

/// Bits of `pollfd.events`, which are those of epoll: POLLIN, POLLPRI, POLLOUT (include/uapi/asm-generic/poll.h).
const IN: u32 = 1;
/// As above. What select calls an exception.
const PRI: u32 = 2;
/// As above.
const OUT: u32 = 4;

/// What a thread waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Polled {
    /// Whether by select or pselect6, else by poll or ppoll.
    pub by_select: bool,
    /// Descriptors and conditions, in the order of the call.
    pub fds: Vec<(u32, u32)>,
    /// Entries, or numbers of descriptors, beyond what is read.
    pub left_out: u64,
}

/// Why it is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// It is in none of these calls now; at another time it may be.
    Elsewhere,
    /// It ended.
    Ended,
    /// This process may not look at that one.
    Refused,
    /// Its arguments point to what cannot be read.
    Unreadable,
}

impl Unseen {
    fn of(error: &io::Error) -> Unseen {
        match error.kind() {
            ErrorKind::PermissionDenied => Unseen::Refused,
            ErrorKind::NotFound => Unseen::Ended,
            _ if error.raw_os_error() == Some(libc::ESRCH) => Unseen::Ended,
            _ => Unseen::Unreadable,
        }
    }

    /// In words.
    pub fn reason(&self) -> &'static str {
        match self {
            Unseen::Elsewhere => "it was not in the call when it was looked at",
            Unseen::Ended => "it ended",
            Unseen::Refused => "its call may not be read: that needs CAP_SYS_PTRACE",
            Unseen::Unreadable => "what its arguments point to cannot be read",
        }
    }
}

/// What a thread asks of the call that it is in.
///
/// # Errors
/// It is in none, or that cannot be seen.
pub fn look(pid: u32, tid: u32) -> Result<Polled, Unseen> {
    let place = format!("/proc/{pid}/task/{tid}/syscall");
    let call = || fs::read_to_string(&place).map_err(|error| Unseen::of(&error));
    let said = call()?;
    let (number, arguments) = arguments(&said).ok_or(Unseen::Elsewhere)?;
    let number = probe_of_call().get(number).copied().map_or(probe::NONE, usize::from);
    let memory = || File::open(format!("/proc/{pid}/mem")).map_err(|error| Unseen::of(&error));
    let polled = match number {
        probe::POLL | probe::PPOLL => poll(&memory()?, arguments),
        probe::SELECT | probe::PSELECT6 => select(&memory()?, arguments, table_size(pid)),
        _ => return Err(Unseen::Elsewhere),
    };
    // What was read is the call's only if the thread is in the same one still.
    if call()? != said {
        return Err(Unseen::Elsewhere);
    }
    polled.map_err(|error| Unseen::of(&error))
}

/// The call's number and its first four arguments in the text of /proc/PID/task/TID/syscall; None where the thread runs,
/// or is in the kernel for another reason than a call.
fn arguments(text: &str) -> Option<(usize, [u64; 4])> {
    let mut words = text.split_ascii_whitespace();
    let number = words.next()?.parse().ok()?;
    let mut arguments = [0; 4];
    for argument in &mut arguments {
        *argument = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    }
    Some((number, arguments))
}

/// How many descriptors the process's table has room for: the kernel looks at no more of a select's.
fn table_size(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let size = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
    size.and_then(|size| size.trim().parse().ok()).unwrap_or(u64::MAX)
}

/// (fds, nfds, ...)
fn poll(memory: &File, [fds, count, ..]: [u64; 4]) -> io::Result<Polled> {
    // The kernel takes an unsigned int.
    let count = count & u64::from(u32::MAX);
    let read = count.min(ENTRIES as u64);
    let mut bytes = vec![0; read as usize * size_of::<libc::pollfd>()];
    memory.read_exact_at(&mut bytes, fds)?;
    Ok(Polled { by_select: false, fds: entries(&bytes), left_out: count - read })
}

/// Descriptors and conditions of `struct pollfd`s; the kernel passes over descriptors below 0.
fn entries(bytes: &[u8]) -> Vec<(u32, u32)> {
    let entry = |bytes: &[u8]| {
        let (fd, rest) = bytes.split_first_chunk()?;
        let (events, _) = rest.split_first_chunk()?;
        let fd = u32::try_from(i32::from_ne_bytes(*fd)).ok()?;
        Some((fd, u16::from_ne_bytes(*events).into()))
    };
    bytes.chunks_exact(size_of::<libc::pollfd>()).filter_map(entry).collect()
}

/// (n, inp, outp, exp, ...)
fn select(memory: &File, [count, sets @ ..]: [u64; 4], table: u64) -> io::Result<Polled> {
    let count = (count & u64::from(u32::MAX)).min(table);
    let read = count.min(ENTRIES as u64 * 8);
    let mut words = [const { Vec::new() }; 3];
    for (words, address) in words.iter_mut().zip(sets).filter(|(_, address)| *address != 0) {
        let mut bytes = vec![0; read.div_ceil(64) as usize * 8];
        memory.read_exact_at(&mut bytes, address)?;
        *words = bytes
            .chunks_exact(8)
            .filter_map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?)))
            .collect();
    }
    Ok(Polled { by_select: true, fds: members(&words, read as u32), left_out: count - read })
}

/// The members below `count` of the three sets, with the conditions of those that have them.
fn members(sets: &[Vec<u64>; 3], count: u32) -> Vec<(u32, u32)> {
    let has =
        |set: &Vec<u64>, fd: u32| set.get(fd as usize / 64).is_some_and(|word| word >> (fd % 64) & 1 == 1);
    let mask = |fd| {
        sets.iter().zip([IN, OUT, PRI]).filter(|(set, _)| has(set, fd)).fold(0, |mask, (_, bit)| mask | bit)
    };
    (0..count).map(|fd| (fd, mask(fd))).filter(|(_, mask)| *mask != 0).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        os::fd::AsRawFd,
        thread,
        time::{Duration, Instant},
    };

    use rustix::{
        event::{PollFd, PollFlags},
        thread::gettid,
    };

    use super::*;

    #[test]
    fn a_running_thread_is_in_no_call() {
        assert_eq!(arguments("running\n"), None);
        assert_eq!(arguments("-1 0x7ffe 0x7f00\n"), None);
        let line = "7 0x7ffd10 0x3 0xffffffff 0x0 0x0 0x0 0x7ffc 0x7f01\n";
        assert_eq!(arguments(line), Some((7, [0x7f_fd10, 3, 0xffff_ffff, 0])));
    }

    #[test]
    fn descriptors_below_zero_are_passed_over() {
        let bytes: Vec<u8> = [(5_i32, 0x2001_u16), (-1, 1), (7, 4)]
            .iter()
            .flat_map(|(fd, events)| [&fd.to_ne_bytes()[..], &events.to_ne_bytes(), &[0; 2]].concat())
            .collect();
        assert_eq!(entries(&bytes), [(5, 0x2001), (7, 4)]);
    }

    #[test]
    fn a_member_of_several_sets_has_all_their_conditions_and_those_beyond_are_none() {
        let sets = [vec![1 << 3, 1 << 1], vec![1 << 3 | 1 << 4], vec![]];
        assert_eq!(members(&sets, 128), [(3, IN | OUT), (4, OUT), (65, IN)]);
        assert_eq!(members(&sets, 65), [(3, IN | OUT), (4, OUT)]);
    }

    #[test]
    fn a_thread_in_poll_is_seen_and_one_elsewhere_is_not() {
        let (reader, writer) = std::io::pipe().unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let own = gettid().as_raw_nonzero().get().cast_unsigned();
        let pid = std::process::id();
        thread::scope(|scope| {
            let fd = &reader;
            scope.spawn(move || {
                sender.send(gettid().as_raw_nonzero().get().cast_unsigned()).unwrap();
                rustix::event::poll(&mut [PollFd::new(fd, PollFlags::IN | PollFlags::RDHUP)], None).unwrap();
            });
            let tid = receiver.recv().unwrap();
            let start = Instant::now();
            let mut seen = look(pid, tid);
            while seen == Err(Unseen::Elsewhere) && start.elapsed() < Duration::from_secs(20) {
                seen = look(pid, tid);
            }
            drop(writer);
            let fds = vec![(reader.as_raw_fd().cast_unsigned(), 0x2001)];
            assert_eq!(seen, Ok(Polled { by_select: false, fds, left_out: 0 }));
        });
        assert_eq!(look(pid, own), Err(Unseen::Elsewhere));
        assert_eq!(look(pid, u32::MAX), Err(Unseen::Ended));
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_panic(text in "[ -~]{0,80}") {
            let _ = arguments(&text);
        }
    }
}
