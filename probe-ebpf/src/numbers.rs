//! The sets that the records number: results, time-outs, mechanisms, operations, losses, programs, with the names
//! that users see. Names and numbers only; what they count is in the records.

/// Numbers that name a set: a table of names whose index is the number used in the records.
macro_rules! numbers {
    ($(#[$doc:meta])* $module:ident { $($(#[$each:meta])* $name:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        pub mod $module {
            numbers!(@each 0_usize; $($(#[$each])* $name),+);
            /// The names as users see them; the index is the number in the records.
            pub const NAMES: [&str; [$($text),+].len()] = [$($text),+];
        }
    };
    (@each $n:expr; $(#[$doc:meta])* $name:ident $(, $(#[$docs:meta])* $names:ident)*) => {
        $(#[$doc])*
        pub const $name: usize = $n;
        numbers!(@each $n + 1; $($(#[$docs])* $names),*);
    };
    (@each $n:expr;) => {};
}

numbers! {
    /// What a [`crate::Chunk`] says.
    chunk {
        /// A descriptor of a process means an instance; the head alone.
        HOLDER = "holder",
        /// Entries of the instance that was announced last.
        ENTRIES = "entries",
        /// The last of its entries, and the end of its walk.
        END = "end",
    }
}

numbers! {
    /// How a completed wait ended.
    result {
        /// It returned at least one event.
        READY = "ready",
        /// A time-out greater than zero ran out.
        TIMEOUT = "timeout",
        /// A time-out of zero, and nothing was ready.
        EMPTY = "empty",
        /// A signal ended it (EINTR).
        INTERRUPTED = "interrupted",
        /// Any other errno.
        ERROR = "error",
    }
}

numbers! {
    /// What the timeout argument of a wait asked for.
    timeout {
        /// Wait for ever: a negative number, or a null pointer.
        INFINITE = "infinite",
        /// Do not wait.
        ZERO = "zero",
        /// Wait at most that long.
        FINITE = "finite",
        /// Behind a pointer that could not be read.
        UNKNOWN = "unknown",
    }
}

numbers! {
    /// What kind of waiting call a loop uses.
    mechanism {
        /// epoll_wait, epoll_pwait, epoll_pwait2.
        EPOLL = "epoll",
        /// poll, ppoll.
        POLL = "poll",
        /// select, pselect6.
        SELECT = "select",
        /// io_uring_enter with GETEVENTS.
        IO_URING = "io_uring",
        /// io_getevents, io_pgetevents.
        AIO = "aio",
    }
}

numbers! {
    /// The operation of an epoll_ctl call; the numbers are the kernel's (include/uapi/linux/eventpoll.h).
    ctl_op {
        /// A number that is none of the others; such a call always fails.
        OTHER = "other",
        /// EPOLL_CTL_ADD.
        ADD = "add",
        /// EPOLL_CTL_DEL.
        DEL = "del",
        /// EPOLL_CTL_MOD.
        MOD = "mod",
    }
}

numbers! {
    /// The trigger flags of a successful EPOLL_CTL_ADD or EPOLL_CTL_MOD.
    ctl_flag {
        /// EPOLLET.
        EDGE = "edge",
        /// EPOLLONESHOT.
        ONESHOT = "oneshot",
        /// EPOLLEXCLUSIVE.
        EXCLUSIVE = "exclusive",
        /// EPOLLWAKEUP.
        WAKEUP = "wakeup",
    }
}

/// Which bit of `struct epoll_event.events` each [`ctl_flag`] is (include/uapi/linux/eventpoll.h).
pub const CTL_FLAG_BITS: [u32; 4] = [31, 30, 28, 29];

numbers! {
    /// The errno of a failed epoll_ctl (the ones that epoll_ctl(2) names).
    ctl_errno {
        /// EBADF.
        EBADF = "EBADF",
        /// EEXIST.
        EEXIST = "EEXIST",
        /// EFAULT.
        EFAULT = "EFAULT",
        /// EINVAL.
        EINVAL = "EINVAL",
        /// ELOOP.
        ELOOP = "ELOOP",
        /// ENOENT.
        ENOENT = "ENOENT",
        /// ENOMEM.
        ENOMEM = "ENOMEM",
        /// ENOSPC.
        ENOSPC = "ENOSPC",
        /// EPERM.
        EPERM = "EPERM",
        /// Any other.
        OTHER = "other",
    }
}

/// The [`ctl_errno`] of each errno number below its length; of higher ones it is [`ctl_errno::OTHER`].
pub static CTL_ERRNOS: [u8; 64] = {
    let mut table = [ctl_errno::OTHER as u8; 64];
    table[9] = ctl_errno::EBADF as u8;
    table[17] = ctl_errno::EEXIST as u8;
    table[14] = ctl_errno::EFAULT as u8;
    table[22] = ctl_errno::EINVAL as u8;
    table[40] = ctl_errno::ELOOP as u8;
    table[2] = ctl_errno::ENOENT as u8;
    table[12] = ctl_errno::ENOMEM as u8;
    table[28] = ctl_errno::ENOSPC as u8;
    table[1] = ctl_errno::EPERM as u8;
    table
};

numbers! {
    /// What was not recorded, and why. The first five are counted per CPU by the programs; `missed` is read
    /// from the kernel's own count of runs that it skipped.
    lost {
        /// A waiter without a record: no memory, or a limit was reached.
        RECORDS = "records",
        /// The ring buffer was full.
        EVENTS = "events",
        /// An exit without an entry.
        UNPAIRED = "unpaired",
        /// A time difference that was negative, taken as zero.
        CLAMPED = "clamped",
        /// A 32-bit task on a way that cannot read its arguments.
        UNSEEN = "unseen",
    }
}

numbers! {
    /// The calls and events that are observed; runs are counted for each.
    probe {
        /// No probe.
        NONE = "none",
        /// epoll_wait.
        EPOLL_WAIT = "epoll_wait",
        /// epoll_pwait.
        EPOLL_PWAIT = "epoll_pwait",
        /// epoll_pwait2.
        EPOLL_PWAIT2 = "epoll_pwait2",
        /// poll.
        POLL = "poll",
        /// ppoll.
        PPOLL = "ppoll",
        /// select.
        SELECT = "select",
        /// pselect6.
        PSELECT6 = "pselect6",
        /// restart_syscall.
        RESTART_SYSCALL = "restart_syscall",
        /// epoll_ctl.
        EPOLL_CTL = "epoll_ctl",
        /// epoll_create.
        EPOLL_CREATE = "epoll_create",
        /// epoll_create1.
        EPOLL_CREATE1 = "epoll_create1",
        /// A thread ends.
        TASK_EXIT = "task_exit",
        /// A thread executes another program.
        TASK_EXEC = "task_exec",
        /// A signal is delivered.
        SIGNAL_DELIVER = "signal_deliver",
        /// io_uring_enter.
        IO_URING_ENTER = "io_uring_enter",
        /// io_uring_setup.
        IO_URING_SETUP = "io_uring_setup",
        /// A ring's request completes.
        IO_URING_COMPLETE = "io_uring_complete",
        /// A ring has no room for a completion.
        IO_URING_CQE_OVERFLOW = "io_uring_cqe_overflow",
        /// io_getevents.
        IO_GETEVENTS = "io_getevents",
        /// io_pgetevents.
        IO_PGETEVENTS = "io_pgetevents",
    }
}

/// Length of the table from a call's number to its [`probe`]; a power of two above every number that is used.
pub const CALL_NUMBERS: usize = 512;

numbers! {
    /// What follows a [`crate::Head`].
    kind {
        /// One [`crate::Loop`] or several, as many as [`crate::Head::size`] says; free ones among them.
        LOOPS = "loops",
        /// One [`crate::Ctl`] or several, likewise.
        CTLS = "ctls",
        /// [`crate::Counters`]; the last record of a pass, so that a pass that was cut short is noticed.
        COUNTERS = "counters",
        /// Nothing: a thread was seen for the first time.
        BORN = "born",
        /// A [`crate::Loop`] in parts: a u64 whose bit i says that line i follows, [`crate::Scalars`], then those lines in
        /// ascending order. The other lines are as they were when this slot was last sent, or zero in a slot that was
        /// taken since.
        LINES = "lines",
        /// Nothing: since the pass before the thread has neither begun nor ended a wait, and no descriptor of its waits
        /// was closed.
        SAME = "same",
    }
}

numbers! {
    /// Why a record was sent.
    reason {
        /// A pass of the iterator.
        SAMPLE = "sample",
        /// The thread ended: these are its last figures.
        EXIT = "exit",
        /// The thread executes another program: these are the last figures of the old one.
        EXEC = "exec",
        /// The thread used more waitables than [`crate::LOOPS_MORE`] has room for.
        EVICT = "evict",
    }
}
