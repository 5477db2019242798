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

/// As [`fork`], with an id for the child that nobody has.
pub fn fork_as(pid: i32) -> Result<Option<i32>, Errno> {
    // struct clone_args (clone(2)): the signal at its end is the fifth, the ids and their number are the ninth and
    // tenth.
    let ids = [pid];
    let arguments = [0, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0, ids.as_ptr() as u64, 1, 0];
    // SAFETY: without flags it is a fork, for which see there; the arguments live through the call.
    match unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) } {
        ..0 => Err(last_error()),
        0 => Ok(None),
        child => i32::try_from(child).map(Some).map_err(|_| Errno::RANGE),
    }
}

/// Makes a call by its number in the table of 32-bit tasks; what it returned. On arguments that name no memory of ours.
#[cfg(target_arch = "x86_64")]
pub fn in_32_bits(number: u32, [a, b, c, d, e]: [u32; 5]) -> i32 {
    let result;
    // SAFETY: the interrupt changes nothing but these registers, and the arguments are numbers. rbx, which takes the
    // first one, is LLVM's own.
    unsafe {
        std::arch::asm!(
            "xchg {first:r}, rbx", "int 0x80", "xchg {first:r}, rbx",
            first = inout(reg) u64::from(a) => _, inlateout("eax") number => result, in("ecx") b, in("edx") c,
            in("esi") d, in("edi") e, lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Has the kernel refuse this thread's calls of epoll_pwait with this maxevents, with EPERM, before they begin.
pub fn refuse_pwait_of(maxevents: u32) -> Result<(), Errno> {
    // Of struct seccomp_data (seccomp(2)): the call's number, and the lower half of its third argument.
    const NUMBER: u32 = 0;
    const THIRD: u32 = 16 + 2 * 8;
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let end = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut steps = [
        step(load, 0, 0, NUMBER),
        step(equal, 0, 3, libc::SYS_epoll_pwait as u32),
        step(load, 0, 0, THIRD),
        step(equal, 0, 1, maxevents),
        step(end, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned()),
        step(end, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the filter lives through the call, which copies it.
    let failed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) != 0
    };
    if failed { Err(last_error()) } else { Ok(()) }
}

/// Ends a forked child at once.
pub fn leave() -> ! {
    // SAFETY: the call has no conditions.
    unsafe { libc::_exit(0) }
}
