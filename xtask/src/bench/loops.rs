//! What the agent and the kernel pay per event loop, and that a higher rate of waits costs the agent nothing.
//!
//! The agent's CPU time is what the scheduler counted (/proc/PID/schedstat, ns), over whole seconds that begin and end
//! half-way between two of its samples: loading, attaching and the final report are not in it.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{
    figures::{Ratio, Spread, Target, rotated, table},
    kernel_memory::{self, KernelMemory},
    others,
    started::{Output, Started},
    tools::{Tool, Tools},
};

/// Waits a second of each loop, where the number of loops grows.
const RATE_OF_ONE: u32 = 10;
/// Loops, where the rate grows.
const FIXED_LOOPS: u32 = 10;
/// At most; the whole takes a minute each.
const MOST_ROUNDS: u32 = 5;
/// How long allocations and threads take to settle.
const SETTLE: Duration = Duration::from_millis(500);
/// The agent samples once a second.
const SAMPLE: Duration = Duration::from_secs(1);

/// So many loops, that together wait so often a second.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
struct Setting {
    loops: u32,
    rate: u32,
}

/// One run with the agent.
#[derive(Serialize)]
struct Run {
    /// Waits a second, as counted by the loops.
    rate: f64,
    /// The agent's CPU time per sample, us.
    cpu_us: f64,
    /// Its memory now and at most (VmRSS, VmHWM), bytes.
    resident: u64,
    peak: u64,
    /// The kernel's memory of its maps and programs, bytes.
    held: u64,
    /// What came into the kernel's memory without and with the agent.
    alone: Firsts,
    watched: Firsts,
}

/// What came into the kernel's memory when the loops' threads did something for the first time.
#[derive(Serialize)]
struct Firsts {
    waits: KernelMemory,
    ctls: KernelMemory,
}

/// A setting, and what was measured.
#[derive(Serialize)]
struct Row {
    setting: Setting,
    rate: Spread,
    cpu_us_per_sample: Spread,
    cpu_us_per_loop_and_sample: Spread,
    resident: Spread,
    peak: Spread,
    held: Spread,
    kernel_bytes_per_wait: Spread,
    kernel_bytes_per_ctl: Spread,
    runs: Vec<Run>,
}

/// The result of this part.
#[derive(Serialize)]
pub struct Loops {
    backend: Tool,
    by_loops: Vec<Row>,
    by_rate: Vec<Row>,
    /// The agent's CPU time at the greatest rate over that at the least, of the same round.
    growth: Option<Ratio>,
}

/// Measures.
pub fn measure(tools: &Tools, rounds: u32, quick: bool) -> Result<Loops> {
    let backend = tools.backends().next().context("loopscope has no backend here")?;
    let seconds = if quick { 2 } else { 5 };
    let (counts, rates): (&[u32], &[u32]) =
        if quick { (&[1, 100], &[1000, 10_000]) } else { (&[1, 100, 2000], &[1000, 10_000, 100_000]) };
    let by_loops = counts.iter().map(|loops| Setting { loops: *loops, rate: loops * RATE_OF_ONE });
    let by_rate = rates.iter().map(|rate| Setting { loops: FIXED_LOOPS, rate: *rate });
    let settings: Vec<Setting> = by_loops.chain(by_rate).collect();
    let mut runs: Vec<(Setting, Vec<Run>)> = settings.iter().map(|setting| (*setting, Vec::new())).collect();
    let rounds = rounds.min(MOST_ROUNDS);
    let mut patience = others::patience(quick);
    for round in 0..rounds {
        others::wait_until_alone(&mut patience);
        println!("loops: round {} of {rounds}", round + 1);
        for setting in rotated(&settings, round) {
            let run = run(tools, backend, setting, seconds)?;
            runs.iter_mut().find(|(of, _)| *of == setting).context("no such setting")?.1.push(run);
        }
    }
    let mut rows =
        runs.into_iter().map(|(setting, runs)| Row::new(setting, runs)).collect::<Result<Vec<_>>>()?;
    let by_rate = rows.split_off(counts.len());
    let growth = growth(&by_rate);
    Ok(Loops { backend, by_loops: rows, by_rate, growth })
}

/// The loops alone, then the loops under the agent.
fn run(tools: &Tools, backend: Tool, setting: Setting, seconds: u32) -> Result<Run> {
    let words = [setting.loops.to_string(), setting.rate.to_string()];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let prepare = || -> Result<_> {
        let mut loops = tools.example("bench_loops", &words)?;
        loops.wait_for(Output::Out, "ready")?;
        Ok(loops)
    };
    let mut loops = prepare()?;
    let alone = begin(&mut loops)?;
    loops.finish(Duration::from_secs(20))?;

    let mut loops = prepare()?;
    let agent = tools.loopscope(backend, Some(loops.pid()))?;
    let watching = Instant::now();
    let watched = begin(&mut loops)?;
    until_half_way(watching);
    let before = cpu_ns(agent.pid())?;
    thread::sleep(SAMPLE * seconds);
    let cpu_us = (cpu_ns(agent.pid())? - before) / 1000.0 / f64::from(seconds);
    let [resident, peak] = memory(agent.pid())?;
    let held = kernel_memory::held_by(agent.pid())?;
    let pid = loops.pid();
    // The report first: it names loops that are there.
    let report: Report = serde_json::from_str(&agent.interrupt()?).context("read loopscope's report")?;
    let done: Done = serde_json::from_str(last_line(&loops.finish(Duration::from_secs(20))?))
        .context("read bench_loops")?;
    let seen = report.loops.iter().filter(|row| row.pid == pid).count();
    ensure!(seen == setting.loops as usize, "the report has {seen} loops of {}", setting.loops);
    let rate = done.waits / done.seconds;
    Ok(Run { rate, cpu_us, resident, peak, held, alone, watched })
}

/// Lets the loops wait for the first time, and then call epoll_ctl for the first time.
fn begin(loops: &mut Started) -> Result<Firsts> {
    thread::sleep(SETTLE);
    let mut moments = vec![KernelMemory::now()?];
    for word in ["wait", "ctl"] {
        loops.tell(word)?;
        thread::sleep(3 * SETTLE);
        moments.push(KernelMemory::now()?);
    }
    let mut grown = moments.iter().zip(moments.iter().skip(1)).map(|(before, after)| after.since(before));
    Ok(Firsts { waits: grown.next().unwrap_or_default(), ctls: grown.next().unwrap_or_default() })
}

/// What is read of loopscope's report.
#[derive(Deserialize)]
struct Report {
    loops: Vec<LoopRow>,
}

#[derive(Deserialize)]
struct LoopRow {
    pid: u32,
}

/// bench_loops' last line.
#[derive(Deserialize)]
struct Done {
    waits: f64,
    seconds: f64,
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or_default()
}

/// Sleeps until half-way between two samples of an agent that began then.
fn until_half_way(began: Instant) {
    let past = began.elapsed().as_secs_f64();
    let next = (past + 0.5).ceil() - 0.5;
    thread::sleep(Duration::from_secs_f64((next - past).max(0.0)));
}

/// The CPU time of all threads of a process, ns.
fn cpu_ns(pid: u32) -> Result<f64> {
    let folder = format!("/proc/{pid}/task");
    let mut sum = 0.0;
    for entry in fs::read_dir(&folder).with_context(|| format!("list {folder}"))?.flatten() {
        let text = fs::read_to_string(entry.path().join("schedstat")).context("read schedstat")?;
        let ran = text.split_whitespace().next().context("schedstat is empty")?;
        sum += ran.parse::<f64>().context("read schedstat")?;
    }
    Ok(sum)
}

/// VmRSS and VmHWM, bytes.
fn memory(pid: u32) -> Result<[u64; 2]> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("read the agent's status")?;
    let field = |name: &str| -> Result<u64> {
        let line =
            status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>().context("read the agent's status")? * 1024)
    };
    Ok([field("VmRSS:")?, field("VmHWM:")?])
}

/// The greatest rate over the least, paired by round.
fn growth(by_rate: &[Row]) -> Option<Ratio> {
    let (least, most) = (by_rate.first()?, by_rate.last()?);
    let pairs: Vec<(f64, f64)> =
        most.runs.iter().zip(&least.runs).map(|(most, least)| (most.cpu_us, least.cpu_us)).collect();
    Ratio::of(&pairs)
}

impl Run {
    /// What the agent made the kernel allocate at the loops' first waits.
    fn at_waits(&self) -> KernelMemory {
        self.watched.waits.since(&self.alone.waits)
    }

    /// The same at their first epoll_ctl.
    fn at_ctls(&self) -> KernelMemory {
        self.watched.ctls.since(&self.alone.ctls)
    }
}

impl Row {
    fn new(setting: Setting, runs: Vec<Run>) -> Result<Row> {
        let spread = |figure: fn(&Run) -> f64| Spread::of(runs.iter().map(figure)).context("no rounds");
        let loops = f64::from(setting.loops);
        let per_loop = |value: Spread| Spread {
            median: value.median / loops,
            min: value.min / loops,
            max: value.max / loops,
        };
        Ok(Row {
            setting,
            rate: spread(|run| run.rate)?,
            cpu_us_per_sample: spread(|run| run.cpu_us)?,
            cpu_us_per_loop_and_sample: per_loop(spread(|run| run.cpu_us)?),
            resident: spread(|run| run.resident as f64)?,
            peak: spread(|run| run.peak as f64)?,
            held: spread(|run| run.held as f64)?,
            kernel_bytes_per_wait: per_loop(spread(|run| run.at_waits().objects() as f64)?),
            kernel_bytes_per_ctl: per_loop(spread(|run| run.at_ctls().objects() as f64)?),
            runs,
        })
    }

    fn cells(&self) -> Vec<String> {
        // Of few threads, what the rest of the system allocates is more.
        let bytes = |bytes: &Spread| if self.setting.loops < 100 { "-".to_owned() } else { bytes.show(0) };
        let mega = |bytes: &Spread| format!("{:.1}", bytes.median / 1e6);
        vec![
            self.setting.loops.to_string(),
            format!("{:.0}", self.rate.median),
            self.cpu_us_per_sample.show(0),
            self.cpu_us_per_loop_and_sample.show(2),
            format!("{:.3}", self.cpu_us_per_sample.median / 1e6 * 100.0),
            mega(&self.resident),
            mega(&self.peak),
            bytes(&self.kernel_bytes_per_wait),
            bytes(&self.kernel_bytes_per_ctl),
        ]
    }
}

impl Loops {
    /// The bounds that the issue sets.
    pub fn targets(&self) -> Vec<Target> {
        let per_loop = self.by_loops.last().map(|row| Target {
            what: format!("agent CPU per loop and sample, us, at {} loops", row.setting.loops),
            bound: "less than 2".to_owned(),
            figure: row.cpu_us_per_loop_and_sample.show(2),
            reached: row.cpu_us_per_loop_and_sample.median < 2.0,
        });
        let rates = self.by_rate.first().zip(self.by_rate.last());
        let growth = rates.zip(self.growth).map(|((least, most), growth)| Target {
            what: format!(
                "agent CPU at {} waits/s over that at {} waits/s",
                most.setting.rate, least.setting.rate
            ),
            bound: "1, give or take 0.2".to_owned(),
            figure: growth.show(),
            reached: growth.ratio <= 1.2,
        });
        per_loop.into_iter().chain(growth).collect()
    }

    /// The part of the document.
    pub fn markdown(&self) -> String {
        let head = [
            "loops",
            "waits/s",
            "agent CPU, us per sample",
            "us per loop and sample",
            "CPU %",
            "RSS, MB",
            "peak, MB",
            "kernel bytes per waiting thread",
            "more with epoll_ctl",
        ];
        let rows: Vec<Vec<String>> = self.by_loops.iter().chain(&self.by_rate).map(Row::cells).collect();
        format!(
            "## Agent and kernel, by loops and by rate\n\n\
             {}; one sample a second, of one process (--pid), so that the machine's own loops do not count; each loop \
             is a thread that sleeps between its waits; median (least to greatest) of {} rounds. CPU is what the \
             scheduler counted over whole samples, without loading and without the report at the end; with few loops it is the pass over all threads of the machine.\n\n{}{}",
            self.backend.name(),
            self.by_loops.last().map_or(0, |row| row.runs.len()),
            table(&head, &rows),
            self.by_loops.last().map_or_else(String::new, Row::memory),
        )
    }
}

impl Row {
    /// What is said of the kernel's memory.
    fn memory(&self) -> String {
        let least = i64::from(self.setting.loops) / 2;
        let last = |grown: fn(&Run) -> KernelMemory| self.runs.last().map(|run| grown(run).show(least));
        format!(
            "\nKernel memory per waiting thread is what kmalloc's size classes of 1024 bytes and more \
             (/proc/slabinfo) grew by at the threads' first waits, less what they grow by without the agent; then the \
             same at their first epoll_ctl. Of fewer than 100 threads that would be noise. At {} loops these classes \
             grew: {}; with epoll_ctl: {} (last round). Beside that the maps and programs take {:.2} MB (fdinfo), \
             whatever the number of loops.\n",
            self.setting.loops,
            last(Run::at_waits).unwrap_or_default(),
            last(Run::at_ctls).unwrap_or_default(),
            self.held.median / 1e6,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_moment_is_half_way() {
        let began = Instant::now() - Duration::from_millis(2300);
        until_half_way(began);
        let past = began.elapsed().as_secs_f64();
        assert!((2.5..2.9).contains(&past), "{past}");
    }

    #[test]
    fn our_own_figures_can_be_read() {
        assert!(cpu_ns(std::process::id()).unwrap() > 0.0);
        let [resident, peak] = memory(std::process::id()).unwrap();
        assert!(resident > 0 && resident <= peak);
    }
}
