//! The agent's own epoll loop: one thread that waits for timers, signals, other threads and the probes.
//!
//! It knows descriptors and nothing of what they mean: see [`Event`]. It is an epoll loop like the ones that
//! loopscope watches, and shows up among them.

mod watch;

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::{
    event::{EventfdFlags, epoll, eventfd},
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};

pub use watch::Watch;

/// What woke the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The periodic timer.
    Tick,
    /// The one-shot timer.
    Deadline,
    /// A signal that asks for an end.
    Signal {
        /// Its number.
        number: i32,
        /// A process sent it to this one alone; else the terminal did, to the whole foreground group.
        directed: bool,
    },
    /// SIGHUP, where [`Reactor::take_hangups`] asked for it.
    Hangup,
    /// The watched command has ended.
    Child,
    /// Another thread, by its [`Waker`].
    Woken,
    /// The probes' ring buffer has records.
    Records,
    /// The probes' log has lines.
    Log,
    /// The terminal has keys.
    Input,
    /// A view asks the agent, or the agent answers.
    Feed,
}

/// What an epoll entry stands for: the index is its user data.
#[derive(Clone, Copy)]
enum Source {
    Tick,
    Deadline,
    Signal,
    Child,
    Waker,
    Records,
    Log,
    Input,
    Feed,
}

impl Source {
    const ALL: [Source; 9] = [
        Source::Tick,
        Source::Deadline,
        Source::Signal,
        Source::Child,
        Source::Waker,
        Source::Records,
        Source::Log,
        Source::Input,
        Source::Feed,
    ];
}

/// The loop and its own descriptors.
pub struct Reactor {
    epoll: OwnedFd,
    tick: OwnedFd,
    deadline: OwnedFd,
    signals: SignalFd,
    taken: SigSet,
    waker: Arc<OwnedFd>,
}

/// Wakes a [`Reactor`] from another thread.
#[derive(Clone)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Makes [`Reactor::wait`] return [`Event::Woken`] once, however often this is called before.
    pub fn wake(&self) {
        // The one error that can be is a counter that is full, and then the reactor wakes anyway.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

impl Reactor {
    /// Makes the loop. SIGINT and SIGTERM are blocked in the calling thread and those that it starts from now on, and
    /// come as [`Event::Signal`].
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new() -> Result<Reactor> {
        let mut asked = SigSet::empty();
        asked.add(Signal::SIGINT);
        asked.add(Signal::SIGTERM);
        asked.thread_block().context("cannot block signals")?;
        let timer = || {
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)
                .context("cannot make a timer")
        };
        let reactor = Reactor {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot make an epoll instance")?,
            tick: timer()?,
            deadline: timer()?,
            signals: SignalFd::with_flags(&asked, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
                .context("cannot take signals by a descriptor")?,
            taken: asked,
            waker: Arc::new(
                eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                    .context("cannot make an eventfd")?,
            ),
        };
        reactor.add(reactor.tick.as_fd(), Source::Tick)?;
        reactor.add(reactor.deadline.as_fd(), Source::Deadline)?;
        reactor.add(reactor.signals.as_fd(), Source::Signal)?;
        reactor.add(reactor.waker.as_fd(), Source::Waker)?;
        Ok(reactor)
    }

    /// Takes SIGHUP too, as [`Event::Hangup`]; before other threads are started, as in [`Reactor::new`].
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn take_hangups(&mut self) -> Result<()> {
        self.taken.add(Signal::SIGHUP);
        self.taken.thread_block().context("cannot block signals")?;
        self.signals.set_mask(&self.taken).context("cannot take signals by a descriptor")
    }

    /// The loop's own epoll descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Wakes the loop from elsewhere.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.waker))
    }

    /// Watches the descriptors of the probes. They stay watched until they are closed.
    ///
    /// # Errors
    /// epoll_ctl refuses one.
    pub fn watch(&self, records: BorrowedFd<'_>, log: Option<BorrowedFd<'_>>) -> Result<()> {
        self.add(records, Source::Records)?;
        log.map_or(Ok(()), |log| self.add(log, Source::Log))
    }

    /// Watches the descriptor of a process; [`Event::Child`] comes when it has ended.
    ///
    /// # Errors
    /// epoll_ctl refuses it.
    pub fn watch_child(&self, pidfd: BorrowedFd<'_>) -> Result<()> {
        self.add(pidfd, Source::Child)
    }

    /// Watches a terminal; [`Event::Input`] comes as long as there is something to read.
    ///
    /// # Errors
    /// epoll_ctl refuses it.
    pub fn watch_input(&self, terminal: BorrowedFd<'_>) -> Result<()> {
        self.add(terminal, Source::Input)
    }

    /// Watches what agent and views say to each other; [`Event::Feed`] comes as long as there is something to read.
    ///
    /// # Errors
    /// epoll_ctl refuses it.
    pub fn watch_feed(&self, feed: BorrowedFd<'_>) -> Result<()> {
        self.add(feed, Source::Feed)
    }

    /// Whether [`Event::Feed`] comes also as long as there is room to write to one of those.
    ///
    /// # Errors
    /// epoll_ctl refuses it.
    pub fn watch_feed_room(&self, feed: BorrowedFd<'_>, room: bool) -> Result<()> {
        let out = if room { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        let data = epoll::EventData::new_u64(Source::Feed as u64);
        epoll::modify(&self.epoll, feed, data, epoll::EventFlags::IN | out).context("cannot watch a socket")
    }

    /// Takes these signals too as [`Event::Signal`], instead of what they would do by themselves.
    ///
    /// # Errors
    /// The signals cannot be blocked, or not added to the descriptor.
    pub fn take_signals(&mut self, more: &[Signal]) -> Result<()> {
        let mut asked = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
        asked.extend(more.iter().copied());
        asked.thread_block().context("cannot block signals")?;
        self.signals.set_mask(&asked).context("cannot take signals by a descriptor")
    }

    /// Gives [`Event::Tick`] every `period`, starting `period` from now.
    ///
    /// # Errors
    /// timerfd_settime refuses the period.
    pub fn tick_every(&self, period: Duration) -> Result<()> {
        set(&self.tick, period, period)
    }

    /// Gives [`Event::Deadline`] once, `after` from now.
    ///
    /// # Errors
    /// timerfd_settime refuses the time.
    pub fn deadline_after(&self, after: Duration) -> Result<()> {
        set(&self.deadline, after, Duration::ZERO)
    }

    /// Waits until something happens, and says what. An interruption is no event.
    ///
    /// # Errors
    /// epoll_wait fails for another reason than a signal.
    pub fn wait(&self) -> Result<Vec<Event>> {
        let mut ready = Vec::with_capacity(Source::ALL.len());
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut ready), None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error).context("epoll_wait fails"),
        }
        let mut events = Vec::with_capacity(ready.len());
        for entry in &ready {
            let data = entry.data;
            if let Some(source) = usize::try_from(data.u64()).ok().and_then(|i| Source::ALL.get(i)) {
                let event = self.take(*source)?;
                // Several descriptors may mean the same.
                events.extend(event.filter(|event| !events.contains(event)));
            }
        }
        Ok(events)
    }

    /// Empties a descriptor of ours, so that it is not reported again, and names what it meant.
    fn take(&self, source: Source) -> Result<Option<Event>> {
        Ok(match source {
            Source::Tick => drain(&self.tick).then_some(Event::Tick),
            Source::Deadline => drain(&self.deadline).then_some(Event::Deadline),
            Source::Waker => drain(&self.waker).then_some(Event::Woken),
            Source::Signal => {
                let info = self.signals.read_signal().context("cannot read a signal")?;
                info.map(|info| match info.ssi_signo.cast_signed() {
                    number if number == Signal::SIGHUP as i32 => Event::Hangup,
                    number => Event::Signal { number, directed: info.ssi_code <= 0 },
                })
            }
            Source::Child => Some(Event::Child),
            Source::Records => Some(Event::Records),
            Source::Log => Some(Event::Log),
            Source::Input => Some(Event::Input),
            Source::Feed => Some(Event::Feed),
        })
    }

    /// Adds a descriptor, level-triggered: what is not emptied is reported again.
    fn add(&self, fd: BorrowedFd<'_>, source: Source) -> Result<()> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(source as u64), epoll::EventFlags::IN)
            .with_context(|| format!("cannot watch descriptor {}", fd.as_raw_fd()))
    }
}

/// Reads a timerfd's or an eventfd's counter; false where it was empty after all.
fn drain(fd: &OwnedFd) -> bool {
    rustix::io::read(fd, &mut [0_u8; 8]).is_ok()
}

/// Starts a timer.
fn set(timer: &OwnedFd, first: Duration, period: Duration) -> Result<()> {
    let spec = |duration: Duration| -> Result<Timespec> {
        Ok(Timespec { tv_sec: duration.as_secs().try_into()?, tv_nsec: duration.subsec_nanos().into() })
    };
    let setting = Itimerspec { it_interval: spec(period)?, it_value: spec(first)? };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &setting).context("cannot set a timer")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_comes_once_and_ticks_come_again() {
        let reactor = Reactor::new().unwrap();
        reactor.tick_every(Duration::from_millis(10)).unwrap();
        reactor.deadline_after(Duration::from_millis(35)).unwrap();
        let (mut ticks, mut deadlines) = (0, 0);
        while ticks < 8 {
            for event in reactor.wait().unwrap() {
                match event {
                    Event::Tick => ticks += 1,
                    Event::Deadline => deadlines += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(deadlines, 1);
    }

    #[test]
    fn another_thread_wakes_it_once() {
        let reactor = Reactor::new().unwrap();
        let waker = reactor.waker();
        std::thread::spawn(move || {
            waker.wake();
            waker.wake();
        })
        .join()
        .unwrap();
        assert_eq!(reactor.wait().unwrap(), [Event::Woken]);
        reactor.deadline_after(Duration::from_millis(1)).unwrap();
        assert_eq!(reactor.wait().unwrap(), [Event::Deadline]);
    }
}
