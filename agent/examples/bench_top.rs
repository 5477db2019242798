//! What `loopscope top` costs and how soon it answers a key, on a host with many loops. As root:
//!
//!     cargo build --release -p loopscope --bins --examples
//!     target/release/examples/bench_top target/release/loopscope 2000 2000 30
//!
//! PROGRAM, LOOPS, waits a second of all together, seconds; further words go to top. Starts `bench_loops`, which lies
//! beside it, and top in a pseudo-terminal of its own. For so many seconds it looks on, for as many more it types j and k,
//! seven a second. An answer is the end of the next synchronised update. Prints JSON. Must not use loopscope's own code.

use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    process::{Child, Command, Stdio},
    ptr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;

/// Between two keys: no divisor of top's interval.
const PAUSE: Duration = Duration::from_millis(137);
/// How long top may be silent: on a machine that others use, a start takes seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// How a synchronised update ends.
const END: &[u8] = b"\x1b[?2026l";
/// For how long top runs before the first key: it has all loops by then.
const WARM: Duration = Duration::from_secs(5);

/// A process that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [program, loops, rate, seconds, rest @ ..] = words.as_slice() else {
        anyhow::bail!("PROGRAM LOOPS WAITS_A_SECOND SECONDS [OPTIONS OF TOP] are wanted");
    };
    let seconds: u64 = seconds.parse()?;
    let beside = env::current_exe()?.with_file_name("bench_loops");
    let mut workload = Command::new(beside);
    workload.args([loops, rate]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut workload = Running(workload.spawn().context("cannot start bench_loops")?);
    let mut ready = String::new();
    // It stays open: bench_loops prints once more at its end.
    let mut output = BufReader::new(workload.0.stdout.take().context("no output")?);
    output.read_line(&mut ready)?;
    ensure!(ready == "ready\n", "bench_loops says {ready:?}");
    let mut start = workload.0.stdin.take().context("no input")?;
    start.write_all(b"\n")?;

    let (mut terminal, slave) = pseudo_terminal()?;
    let mut top = Command::new(program);
    top.arg("top").args(rest).stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
    let top = Running(top.env("TERM", "xterm-256color").spawn().context("cannot start top")?);
    let pid = top.0.id();
    answer(&mut terminal)?;
    drain(&mut terminal, WARM)?;
    let (before, from) = (cpu_seconds(pid)?, Instant::now());
    drain(&mut terminal, Duration::from_secs(seconds))?;
    let watched = (cpu_seconds(pid)? - before) / from.elapsed().as_secs_f64();
    let (before, from) = (cpu_seconds(pid)?, Instant::now());
    let mut answers = Vec::new();
    while from.elapsed() < Duration::from_secs(seconds) {
        let key = if answers.len() % 8 < 4 { b"j" } else { b"k" };
        drain(&mut terminal, PAUSE)?;
        let sent = Instant::now();
        terminal.write_all(key)?;
        answers.push(answer(&mut terminal)?.duration_since(sent));
    }
    let (spent, elapsed) = (cpu_seconds(pid)? - before, from.elapsed().as_secs_f64());
    answers.sort();
    let at = |share: f64| -> Option<f64> {
        let i = ((answers.len() - 1) as f64 * share).round() as usize;
        Some(answers.get(i)?.as_secs_f64() * 1e3)
    };
    println!(
        "{}",
        json!({
            "loops": loops, "waits_a_second": rate, "keys": answers.len(),
            "answer_ms": { "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0) },
            "cpu_of_a_core": watched, "cpu_of_a_core_while_typing": spent / elapsed,
            "peak_mb": peak_mb(pid)?, "resident_mb": memory(pid, "VmRSS:")?,
        })
    );
    drop((start, output));
    Ok(())
}

/// Both ends of a terminal of 160 columns and 50 rows.
fn pseudo_terminal() -> Result<(File, OwnedFd)> {
    let (mut ends, size) = ([0; 2], libc::winsize { ws_row: 50, ws_col: 160, ws_xpixel: 0, ws_ypixel: 0 });
    let [main, slave] = &mut ends;
    // SAFETY: both numbers are written, null is allowed for name and modes, and `size` lives through the call.
    let failed = unsafe { libc::openpty(main, slave, ptr::null_mut(), ptr::null(), &raw const size) };
    ensure!(failed == 0, "cannot make a terminal: {}", std::io::Error::last_os_error());
    // SAFETY: the call has just made both, and nobody else has them.
    Ok(unsafe { (File::from_raw_fd(*main), OwnedFd::from_raw_fd(*slave)) })
}

/// Whether there is something to read within a time.
fn is_readable(terminal: &File, time: Duration) -> bool {
    let mut wanted = libc::pollfd { fd: terminal.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which lives through the call.
    unsafe { libc::poll(&raw mut wanted, 1, i32::try_from(time.as_millis()).unwrap_or(i32::MAX)) > 0 }
}

/// Reads and forgets for that long.
fn drain(terminal: &mut File, time: Duration) -> Result<()> {
    let from = Instant::now();
    let mut bytes = vec![0; 1 << 16];
    while let Some(left) = time.checked_sub(from.elapsed()).filter(|left| !left.is_zero()) {
        if is_readable(terminal, left) {
            ensure!(terminal.read(&mut bytes)? > 0, "top has ended");
        }
    }
    Ok(())
}

/// When the next update is whole.
fn answer(terminal: &mut File) -> Result<Instant> {
    let (mut said, mut bytes) = (Vec::<u8>::new(), vec![0; 1 << 16]);
    while !said.windows(END.len()).any(|window| window == END) {
        ensure!(is_readable(terminal, PATIENCE), "top does not answer");
        let count = terminal.read(&mut bytes)?;
        said.extend(bytes.iter().take(count));
    }
    Ok(Instant::now())
}

/// CPU time of a process, seconds: fields 14 and 15 of its stat (proc(5)), in ticks of 10 ms.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').context("no stat")?.1.split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / 100.0)
}

fn peak_mb(pid: u32) -> Result<f64> {
    memory(pid, "VmHWM:")
}

/// A figure of /proc/PID/status, MB of 10^6 bytes.
fn memory(pid: u32, name: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no memory")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}
