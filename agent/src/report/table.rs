//! The human views: what `report` and `check` print for people.
//!
//! Only layout: figures come from the documents and [`super::derived`], units from [`super::units`]. Nothing
//! that others chose reaches the terminal without [`super::text`].

use std::io::{self, Write};

use super::check::{CheckDocument, ProbeCheck};
use super::columns::COLUMNS;
use super::document::{InstanceRow, LoopRow, Report};
use super::grid::{Align, Grid, Head};
use super::text::{one_line, wrap};
use super::units;

/// The instances that are listed: more would bury the loops.
const INSTANCES_SHOWN: usize = 20;
/// The holders that are named per instance.
const HOLDERS_SHOWN: usize = 3;

/// Writes a report; `width` is the terminal's in columns, None for none.
pub fn write_report(report: &Report, width: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let mut page = Page { width, out };
    summary(report, &mut page)?;
    loops(report, &mut page)?;
    instances(report, &mut page)?;
    footer(report, &mut page)
}

/// Writes what `check` found; `width` as in [`write_report`].
pub fn write_check(check: &CheckDocument, width: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let mut page = Page { width, out };
    page.say(&origin(&check.version, &check.host, &check.kernel, &check.arch))?;
    page.say(match check.main_job {
        true => "The main job can be done here: waits, wait times and busy times of epoll loops.",
        false => "The main job cannot be done here: no waits, wait times or busy times of epoll loops.",
    })?;
    page.blank()?;
    let names = check.facts.iter().map(|fact| one_line(&fact.name)).collect::<Vec<_>>();
    let column = names.iter().map(|name| super::text::width(name)).max().unwrap_or(0);
    for (fact, name) in check.facts.iter().zip(&names) {
        let padding = " ".repeat(column.saturating_sub(super::text::width(name)));
        let mark = if fact.ok { "ok " } else { "NO " };
        page.item(&format!("{mark}  {name}{padding}  "), &fact.value)?;
    }
    if !check.facts.is_empty() {
        page.blank()?;
    }
    probe_table(check, &mut page)?;
    attempts(check, &mut page)?;
    if !check.limits.is_empty() {
        page.blank()?;
    }
    check.limits.iter().try_for_each(|limit| page.item("Not seen are ", limit))
}

/// Where the lines go, and how wide they may be.
pub(crate) struct Page<'a> {
    /// Columns of the terminal.
    pub width: Option<usize>,
    /// Where to.
    pub out: &'a mut dyn Write,
}

impl Page<'_> {
    /// Prose, made safe and wrapped.
    pub fn say(&mut self, text: &str) -> io::Result<()> {
        self.item("", text)
    }

    /// Prose after a lead, to whose end its further lines are indented.
    pub fn item(&mut self, lead: &str, text: &str) -> io::Result<()> {
        wrap(lead, &one_line(text), self.width)
            .iter()
            .try_for_each(|line| writeln!(self.out, "{}", line.trim_end()))
    }

    /// An empty line.
    pub fn blank(&mut self) -> io::Result<()> {
        writeln!(self.out)
    }

    /// A table, and which columns of it found no room.
    pub fn grid(&mut self, grid: &Grid) -> io::Result<()> {
        let left_out = grid.write(self.width, self.out)?;
        if left_out.is_empty() {
            return Ok(());
        }
        self.say(&format!("Not shown for lack of width: {}; --format csv has all.", left_out.join(", ")))
    }
}

fn origin(version: &str, host: &str, kernel: &str, arch: &str) -> String {
    format!("loopscope {version} on {host}, Linux {kernel} {arch}")
}

/// `1 loop`, `2 loops`.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Where and when, how many loops, and what was lost.
pub(crate) fn summary(report: &Report, page: &mut Page) -> io::Result<()> {
    page.say(&format!(
        "{}, {} from {}",
        origin(&report.version, &report.host, &report.kernel, &report.arch),
        units::seconds(report.duration_seconds),
        report.started_at,
    ))?;
    let (loops, waiters) = report.loops_and_waiters();
    let mut what = plural(loops, "loop");
    if waiters > 0 {
        what = format!("{what} and {}", plural(waiters, "other waiter"));
    }
    let lost: Vec<String> = (report.lost.reasons().into_iter())
        .filter(|(_, count, _)| *count > 0)
        .map(|(reason, count, _)| format!("{reason} {count}"))
        .collect();
    page.say(&format!(
        "{what}; {} waits/s, {} events/s; {}",
        units::number(report.per_second(report.waits())),
        units::number(report.per_second(report.events())),
        if lost.is_empty() { "nothing lost".to_owned() } else { format!("LOST: {}", lost.join(", ")) },
    ))?;
    page.blank()
}

/// The table of loops.
pub(crate) fn loops(report: &Report, page: &mut Page) -> io::Result<()> {
    if report.loops.is_empty() {
        page.say("No event loop waited in this window.")?;
        return page.say(
            "Hint: watch for longer (--duration 60s), loosen --pid, --comm or --cgroup, or see 'loopscope check'.",
        );
    }
    let mut rows: Vec<&LoopRow> = report.loops.iter().collect();
    rows.sort_by(|a, b| LoopRow::by_utilization(a, b));
    let mut grid = Grid::new(COLUMNS.iter().map(|column| column.head));
    for row in rows {
        grid.push(COLUMNS.iter().map(|column| (column.cell)(row, report)));
    }
    page.grid(&grid)
}

const INSTANCE_HEADS: [Head; 8] = [
    Head { header: "INSTANCE", align: Align::Right, rank: 0 },
    Head { header: "HELD BY pid:fd", align: Align::Left, rank: 1 },
    Head { header: "WAITERS", align: Align::Right, rank: 3 },
    Head { header: "ADD", align: Align::Right, rank: 2 },
    Head { header: "MOD", align: Align::Right, rank: 2 },
    Head { header: "DEL", align: Align::Right, rank: 2 },
    Head { header: "FAILED", align: Align::Left, rank: 4 },
    Head { header: "FLAGS", align: Align::Left, rank: 5 },
];

fn instances(report: &Report, page: &mut Page) -> io::Result<()> {
    if report.instances.is_empty() {
        return Ok(());
    }
    let mut rows: Vec<&InstanceRow> = report.instances.iter().collect();
    rows.sort_by(|a, b| InstanceRow::by_calls(a, b));
    let hidden = rows.len().saturating_sub(INSTANCES_SHOWN);
    page.blank()?;
    let mut grid = Grid::new(INSTANCE_HEADS);
    for row in rows.into_iter().take(INSTANCES_SHOWN) {
        let ctl = &row.ctl;
        let flags = [
            ("edge", ctl.flags.edge),
            ("oneshot", ctl.flags.oneshot),
            ("exclusive", ctl.flags.exclusive),
            ("wakeup", ctl.flags.wakeup),
        ];
        grid.push([
            row.instance.to_string(),
            holders(row),
            row.waiters.to_string(),
            units::count(ctl.add),
            units::count(ctl.r#mod),
            units::count(ctl.del),
            named_counts(ctl.errors.iter().map(|(name, count)| (name.as_str(), *count))),
            named_counts(flags.into_iter()),
        ]);
    }
    page.grid(&grid)?;
    if hidden > 0 {
        page.say(&format!(
            "and {} with fewer epoll_ctl calls; --format json has all.",
            plural(hidden, "instance")
        ))?;
    }
    Ok(())
}

/// Who holds an instance: the first few, and how many more.
pub(crate) fn holders(row: &InstanceRow) -> String {
    let shown: Vec<String> = row
        .holders
        .iter()
        .take(HOLDERS_SHOWN)
        .map(|holder| format!("{}:{}", holder.pid, holder.fd))
        .collect();
    match row.holders.len().saturating_sub(HOLDERS_SHOWN) {
        _ if shown.is_empty() => "-".to_owned(),
        0 => shown.join(" "),
        more => format!("{} +{more}", shown.join(" ")),
    }
}

/// `EEXIST 1, ENOENT 2`: those that are not zero.
fn named_counts<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> String {
    let shown: Vec<String> = counts
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {}", units::count(count)))
        .collect();
    if shown.is_empty() { "-".to_owned() } else { shown.join(", ") }
}

/// The probes, and what the view could not see.
pub(crate) fn footer(report: &Report, page: &mut Page) -> io::Result<()> {
    page.blank()?;
    let probes: Vec<String> = (report.probes.iter())
        .map(|probe| format!("{} by {} {}", probe.name, probe.backend, units::count(probe.runs)))
        .collect();
    let probes = if probes.is_empty() { "none".to_owned() } else { probes.join(", ") };
    page.item("Probes and their runs: ", &probes)?;
    if let Some(seconds) = report.measured_probe_seconds() {
        page.say(&run_times(report, seconds))?;
    }
    let lost = report.lost.reasons().into_iter().filter(|(_, count, _)| *count > 0);
    let unseen: Vec<String> = (lost
        .map(|(reason, count, meaning)| format!("lost {reason} {count}: {meaning}")))
    .chain(report.notes.iter().cloned())
    .collect();
    if unseen.is_empty() {
        return Ok(());
    }
    page.say("What this view could not see:")?;
    unseen.iter().try_for_each(|note| page.item("- ", note))
}

/// What the probes took in all, and a run of each.
fn run_times(report: &Report, seconds: f64) -> String {
    let share = report.share_of_machine(seconds, 1).map(units::percent);
    let measured = report.probes.iter().filter_map(|probe| Some((probe, probe.run_seconds?)));
    let each: Vec<String> = (measured.filter(|(probe, _)| probe.runs > 0))
        .map(|(probe, seconds)| format!("{} {}", probe.name, units::seconds(seconds / probe.runs as f64)))
        .collect();
    let whole = format!("{} ({} of a CPU)", units::seconds(seconds), share.as_deref().unwrap_or("-"));
    format!("They took {whole}; a run of each: {}", each.join(", "))
}

fn probe_table(check: &CheckDocument, page: &mut Page) -> io::Result<()> {
    let head = |header| Head { header, align: Align::Left, rank: 0 };
    let mut grid = Grid::new([head("PROBE"), head("BACKEND"), head("STATE")]);
    for probe in &check.probes {
        let state = if probe.ok { "ok" } else { "FAILED" };
        grid.push([
            probe.name.clone(),
            probe.backend.clone().unwrap_or_else(|| "-".to_owned()),
            state.to_owned(),
        ]);
    }
    page.grid(&grid)
}

/// What was tried in vain for probes, and what is lost by it. Those that are attached and have the same reasons are told of
/// together.
fn attempts(check: &CheckDocument, page: &mut Page) -> io::Result<()> {
    let mut left: Vec<&ProbeCheck> =
        check.probes.iter().filter(|probe| !(probe.ok && probe.tried.is_empty())).collect();
    while let Some(&first) = left.first() {
        let (alike, others): (Vec<_>, Vec<_>) = left.into_iter().partition(|probe| {
            std::ptr::eq(*probe, first) || (probe.ok && first.ok && probe.tried == first.tried)
        });
        left = others;
        page.blank()?;
        let names: Vec<&str> = alike.iter().map(|probe| probe.name.as_str()).collect();
        page.say(&format!("{}:", names.join(", ")))?;
        for tried in &first.tried {
            page.item(&format!("- {} failed: ", one_line(&tried.backend)), &tried.error)?;
        }
        if !first.ok {
            page.item("- lost by it: ", &first.lost_without)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
