//! Processes that a test starts, and ends whatever happens.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Instant,
};

pub use rustix::process::Signal;
use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

use super::{PATIENCE, until};

/// A process in a process group of its own. Dropped before it ended, it is killed together with its descendants.
pub struct Process {
    name: String,
    child: Child,
    reaped: bool,
    out: Lines,
    err: Lines,
}

/// Which output.
#[derive(Clone, Copy, Debug)]
pub enum Output {
    Out,
    Err,
}

impl Process {
    /// Starts it, with its output in the test's hands.
    pub fn start(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Process { name, child, reaped: false, out: Lines::of(out), err: Lines::of(err) }
    }

    /// Starts a shell that stops itself and becomes the program when it is continued: its id is known before it runs.
    pub fn start_stopped(program: &str, arguments: &[String]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "kill -STOP $$; exec \"$@\"", "sh", program]).args(arguments);
        let process = Self::start(&mut shell);
        until("a launcher to stop itself", || (state(process.pid())? == 'T').then_some(()));
        process
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits until it prints a line that contains `text`.
    pub fn wait_for_line(&mut self, output: Output, text: &str) {
        let lines = match output {
            Output::Out => &mut self.out,
            Output::Err => &mut self.err,
        };
        if !lines.read_until(|line| line.contains(text)) {
            panic!("{} ended: no {text:?} in {:?}; {:?}", self.name, self.out, self.err);
        }
    }

    /// Waits until it ended with success, and whoever shares its output too; what it printed on stdout.
    pub fn finish(mut self) -> String {
        let pid = WaitId::Pid(Pid::from_child(&self.child));
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        until(&self.name, || waitid(pid.clone(), options).unwrap());
        self.out.read_until(|_| false);
        self.err.read_until(|_| false);
        let status = self.child.wait().unwrap();
        self.reaped = true;
        assert!(status.success(), "{}: {status}; {:?}; {:?}", self.name, self.out, self.err);
        std::mem::take(&mut self.out.seen)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Until it is reaped, the id is its own, of the process and of its group.
        if !self.reaped {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// The lines of an output, read by a thread.
struct Lines {
    coming: Receiver<String>,
    seen: String,
}

impl Lines {
    fn of(output: impl Read + Send + 'static) -> Self {
        let (sender, coming) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
        });
        Lines { coming, seen: String::new() }
    }

    /// Reads until a line is the one that was wanted: true; false at the end of the output.
    fn read_until(&mut self, wanted: impl Fn(&str) -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.coming.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push_str(&line);
                    self.seen.push('\n');
                    if wanted(&line) {
                        return true;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => panic!("waited too long for more than {:?}", self.seen),
            }
        }
    }
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.seen.fmt(f)
    }
}

/// Sends a signal to a process that this test started, or a child of one.
pub fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Interrupts whatever waits the threads of a process are in: epoll_wait fails with EINTR when its process is stopped
/// and continued (signal(7)).
pub fn interrupt(pid: u32) {
    send(pid, Signal::STOP);
    until("a process to stop", || (state(pid)? == 'T').then_some(()));
    send(pid, Signal::CONT);
}

/// The state of a process, of its first thread: the letter that proc(5) explains.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
