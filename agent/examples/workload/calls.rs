//! The system calls that the scenarios make, raw: libc's wrappers choose between them as they like.
//!
//! Must hide nothing: every error comes back as its errno.

use std::{
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

use rustix::{
    io::Errno,
    time::{ClockId, clock_gettime},
};

/// Which call waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// epoll_wait; where the architecture has none, as [`Call::Pwait`].
    Wait,
    /// epoll_pwait with a signal mask.
    Pwait,
    /// epoll_pwait2 with a signal mask.
    Pwait2,
}

impl Call {
    /// All of them.
    pub const ALL: [Call; 3] = [Call::Wait, Call::Pwait, Call::Pwait2];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Call::Wait => "epoll_wait",
            Call::Pwait => "epoll_pwait",
            Call::Pwait2 => "epoll_pwait2",
        }
    }
}

/// The timeout of a wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// None: wait for ever.
    Infinite,
    /// Do not wait.
    Zero,
    /// At most so many ms.
    Millis(u16),
    /// Behind an address that is not mapped; of epoll_pwait2 alone.
    Unreadable,
}

/// An address that is never mapped.
pub const UNMAPPED: usize = 8;
/// Room for the events of a wait.
pub const ROOM: usize = 64;

/// Buffer of a wait.
pub type Events = [libc::epoll_event; ROOM];

/// A result of the raw system call: at least 0, or an errno.
fn outcome(result: i64) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| last_error())
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// CLOCK_MONOTONIC, ns.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// A new epoll instance; stays open at exec.
pub fn create() -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes a number.
    let fd = unsafe { libc::epoll_create1(0) };
    if fd < 0 {
        return Err(last_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An eventfd whose counter is `count`: readable if that is not 0.
pub fn event(count: u32) -> Result<OwnedFd, Errno> {
    rustix::event::eventfd(count, rustix::event::EventfdFlags::NONBLOCK)
}

/// epoll_ctl. `flags` None: the event lies at an address that is not mapped.
pub fn control(epfd: i32, op: i32, fd: i32, flags: Option<i32>) -> Result<(), Errno> {
    let mut event = libc::epoll_event { events: flags.unwrap_or(0).cast_unsigned(), u64: 0 };
    let address = flags.map_or(UNMAPPED as *mut _, |_| &raw mut event);
    // SAFETY: the kernel checks the address; where it is the event's, that lives through the call.
    outcome(unsafe { libc::syscall(libc::SYS_epoll_ctl, epfd, op, fd, address) }).map(drop)
}

/// Adds `fd`, level-triggered, for reading.
pub fn add(epfd: &OwnedFd, fd: &OwnedFd) -> Result<(), Errno> {
    control(epfd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), Some(libc::EPOLLIN))
}

/// One wait. `events` None: the buffer lies at an address that the kernel refuses.
pub fn wait(
    call: Call,
    epfd: i32,
    events: Option<&mut Events>,
    max: i32,
    limit: Limit,
) -> Result<usize, Errno> {
    debug_assert!(events.is_none() || max <= ROOM as i32);
    let buffer = events.map_or(usize::MAX as *mut libc::epoll_event, |events| events.as_mut_ptr());
    let millis = match limit {
        Limit::Infinite | Limit::Unreadable => -1,
        Limit::Zero => 0,
        Limit::Millis(millis) => i32::from(millis),
    };
    // The kernel's signal sets are 8 bytes; an empty one blocks nothing.
    let mask = 0_u64;
    let (mask_at, mask_size) = (&raw const mask, size_of::<u64>());
    match call {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the buffer has room for `max` events, or is refused.
        Call::Wait => outcome(unsafe { libc::syscall(libc::SYS_epoll_wait, epfd, buffer, max, millis) }),
        #[cfg(not(target_arch = "x86_64"))]
        // SAFETY: as above; no mask is given.
        Call::Wait => outcome(unsafe {
            libc::syscall(libc::SYS_epoll_pwait, epfd, buffer, max, millis, ptr::null::<u64>(), mask_size)
        }),
        // SAFETY: as above; the mask lives through the call.
        Call::Pwait => outcome(unsafe {
            libc::syscall(libc::SYS_epoll_pwait, epfd, buffer, max, millis, mask_at, mask_size)
        }),
        Call::Pwait2 => {
            let time = [0, i64::from(millis.max(0)) * 1_000_000];
            let address = match limit {
                Limit::Infinite => ptr::null(),
                Limit::Unreadable => UNMAPPED as *const _,
                Limit::Zero | Limit::Millis(_) => time.as_ptr(),
            };
            // SAFETY: as above; the time lives through the call, or is null, or is refused.
            outcome(unsafe {
                libc::syscall(libc::SYS_epoll_pwait2, epfd, buffer, max, address, mask_at, mask_size)
            })
        }
    }
}

/// Sends SIGALRM to this process every `millis` ms; 0 stops it. The signal's handler does nothing.
pub fn alarm_every(millis: i64) -> Result<(), Errno> {
    extern "C" fn nothing(_: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = nothing;
    let period = libc::timeval { tv_sec: 0, tv_usec: millis * 1000 };
    let timer = libc::itimerval { it_interval: period, it_value: period };
    // SAFETY: zero is a value of sigaction; the handler does nothing, which is safe in a signal; both structures
    // live through the calls.
    let failed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        libc::sigaction(libc::SIGALRM, &raw const action, ptr::null_mut()) != 0
            || libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) != 0
    };
    if failed { Err(last_error()) } else { Ok(()) }
}

/// fork: Some(child) in the parent, None in the child.
pub fn fork() -> Result<Option<i32>, Errno> {
    // SAFETY: the callers have one thread, so the child finds no lock taken.
    match unsafe { libc::fork() } {
        ..0 => Err(last_error()),
        0 => Ok(None),
        child => Ok(Some(child)),
    }
}

/// Ends a forked child at once.
pub fn leave() -> ! {
    // SAFETY: the call has no conditions.
    unsafe { libc::_exit(0) }
}
