//! One row in full: heat maps over time, histograms of the latest window, and what else is known of it.

use ratatui::text::Line;

use super::{Pen, heat};
use crate::{
    report::{
        columns::{NONE, busy, or_none, state, time},
        derived::share,
        document::{InstanceRow, ListenerRow, LoopRow},
        group::{Row, place},
        models::IoModel,
        text::{cut, sanitize, width as columns_of},
        units,
    },
    tui::{app::App, frame::Frame, theme::Tone},
};

/// All lines; what does not fit is scrolled to.
pub fn lines(app: &App, pen: Pen, width: usize) -> Vec<Line<'static>> {
    let (Some(line), Some(frame)) = (app.detail(), app.frame()) else {
        return vec![pen.line("It ended, and its figures are gone; Esc goes back.", Tone::Faint)];
    };
    let row = &line.row;
    if let Some(answer) = &frame.fleet {
        return super::fleet::detail(answer, row, pen, width);
    }
    let mut page = Page { pen, width, lines: Vec::new() };
    identity(&mut page, app, frame, row);
    heat_maps(&mut page, app, row);
    histograms(&mut page, row);
    figures(&mut page, frame, &row.row);
    match frame.instance(row.row.instance).filter(|_| row.members <= 1) {
        Some(instance) => self::instance(&mut page, frame, instance),
        None => page.fact("instance", NONE),
    }
    relatives(&mut page, app, row);
    page.lines
}

struct Page {
    pen: Pen,
    width: usize,
    lines: Vec<Line<'static>>,
}

impl Page {
    fn title(&mut self, text: &str) {
        self.lines.push(Line::default());
        self.lines.push(self.pen.line(cut(&sanitize(text), self.width), Tone::Title));
    }

    fn text(&mut self, text: &str) {
        self.lines.push(self.pen.line(cut(&sanitize(text), self.width), Tone::Plain));
    }

    /// A name and what is known of it.
    fn fact(&mut self, name: &str, value: impl AsRef<str>) {
        let value = cut(&sanitize(value.as_ref()), self.width.saturating_sub(13));
        let spans = [self.pen.span(format!("{name:<12} "), Tone::Name), self.pen.span(value, Tone::Plain)];
        self.lines.push(Line::from(spans.to_vec()));
    }

    /// Two blocks side by side where they fit, else one below the other.
    fn blocks(&mut self, titles: [String; 2], make: impl Fn(usize, usize) -> Vec<String>) {
        if self.width < 100 {
            for (i, title) in titles.iter().enumerate() {
                self.title(title);
                make(i, self.width).iter().for_each(|line| self.text(line));
            }
            return;
        }
        let half = (self.width - 2) / 2;
        let [left, right] = [make(0, half), make(1, half)];
        let [first, second] = titles;
        let beside = |left: &str, right: &str| {
            let left = cut(&sanitize(left), half);
            format!("{left}{}  {right}", " ".repeat(half - columns_of(&left)))
        };
        self.title(&beside(&first, &second));
        for i in 0..left.len().max(right.len()) {
            let of = |lines: &[String]| lines.get(i).cloned().unwrap_or_default();
            self.text(&beside(&of(&left), &of(&right)));
        }
    }
}

fn identity(page: &mut Page, app: &App, frame: &Frame, row: &Row) {
    let figures = &row.row;
    let name = crate::report::columns::name(figures);
    let what = if row.members > 1 { format!("{} loops and waiters like {name}", row.members) } else { name };
    page.lines.push(page.pen.line(
        cut(&sanitize(&format!("{what}  {}  {}", figures.mechanism.name(), state(figures))), page.width),
        Tone::Title,
    ));
    let ids = [("pid", row.key.pid), ("tid", row.key.tid)];
    let ids: Vec<String> =
        ids.iter().filter(|(_, id)| *id != 0).map(|(name, id)| format!("{name} {id}")).collect();
    page.fact("rows are", format!("{}  {}", app.settings.grouping.plural(), ids.join("  ")));
    let model = IoModel::of(figures, frame.instance(figures.instance)).filter(|_| row.members <= 1);
    page.fact("I/O model", model.map_or(NONE, IoModel::meaning));
    page.fact("executable", figures.exe.as_deref().unwrap_or(NONE));
    page.fact("runs in", place(figures));
    if figures.pod.is_some() {
        page.fact("pod", figures.pod.as_deref().unwrap_or(NONE));
    }
}

fn heat_maps(page: &mut Page, app: &App, row: &Row) {
    let past = [app.history.wait(&row.key), app.history.busy(&row.key)];
    let [waits, busy] = past.each_ref().map(Vec::len);
    let titles = [
        format!("Wait time over the latest {waits} windows"),
        format!("Busy time over the latest {busy} windows"),
    ];
    page.blocks(titles, |i, width| {
        let lines = heat::map(past.get(i).map_or(&[], Vec::as_slice), width);
        if lines.is_empty() { vec!["none".to_owned()] } else { lines }
    });
}

fn histograms(page: &mut Page, row: &Row) {
    let titles = ["Waits of this window".to_owned(), "Busy times of this window".to_owned()];
    page.blocks(titles, |i, width| {
        let lines = heat::histogram(if i == 0 { &row.wait } else { &row.busy }, width);
        if lines.is_empty() { vec!["none".to_owned()] } else { lines }
    });
}

fn figures(page: &mut Page, frame: &Frame, row: &LoopRow) {
    page.title("Figures of this window");
    let wait = &row.wait_seconds;
    page.fact(
        "wait",
        format!(
            "p50 {}  p90 {}  p99 {}  max {}",
            time(wait.p50),
            time(wait.p90),
            time(wait.p99),
            time(wait.max)
        ),
    );
    page.fact(
        "busy",
        format!(
            "p50 {}  p90 {}  p99 {}  max {}",
            busy(row, |busy| busy.p50),
            busy(row, |busy| busy.p90),
            busy(row, |busy| busy.p99),
            busy(row, |busy| busy.max)
        ),
    );
    let rate = |count| units::number(frame.head.per_second(count));
    page.fact(
        "waits",
        format!(
            "{}/s  {} events/s  {} per wait  maxevents {}",
            rate(row.waits),
            rate(row.events),
            or_none(row.events_per_wait.mean().map(units::number)),
            or_none(row.maxevents.map(|most| most.to_string()))
        ),
    );
    let results = [
        ("ready", row.results.ready),
        ("time-out", row.results.timeout),
        ("empty", row.results.empty),
        ("interrupted", row.results.interrupted),
        ("error", row.results.error),
        ("saturated", row.saturated),
    ];
    page.fact("ended by", mix(&results, row.waits));
    let timeouts = [
        ("infinite", row.timeouts.infinite),
        ("zero", row.timeouts.zero),
        ("finite", row.timeouts.finite),
        ("unknown", row.timeouts.unknown),
    ];
    page.fact("time-outs", mix(&timeouts, row.waits));
    let late = row.overrun_seconds.unwrap_or_default();
    page.fact(
        "overrun",
        format!("p99 {}  max {} of {}", time(late.p99), time(late.max), units::count(late.count)),
    );
    let backlog =
        row.backlog.map(|b| format!("p50 {}  p99 {}  max {}", count(b.p50), count(b.p99), count(b.max)));
    let requeued = row.requeued.map(|r| format!("  of them delivered before: p99 {}", count(r.p99)));
    page.fact("backlog", format!("{}{}", or_none(backlog), requeued.unwrap_or_default()));
    if let Some(nfds) = &row.nfds {
        let highest = or_none(row.highest_fd.map(|fd| fd.to_string()));
        page.fact("nfds", format!("p50 {}  max {}  highest {highest}", count(nfds.p50), count(nfds.max)));
    }
    let copied = [row.copied_bytes.r#in, row.copied_bytes.out].map(rate);
    let [r#in, out] = copied;
    page.fact("copied", format!("{in} bytes/s in  {out} bytes/s out"));
}

fn count(count: Option<u64>) -> String {
    or_none(count.map(units::count))
}

/// Those that are not zero, the shares of `whole` in percent.
fn mix(parts: &[(&str, u64)], whole: u64) -> String {
    let shown: Vec<String> = (parts.iter())
        .filter(|(_, count)| *count > 0)
        .filter_map(|(name, count)| Some(format!("{name} {}", units::percent(share(*count, whole)?))))
        .collect();
    if shown.is_empty() { NONE.to_owned() } else { shown.join("  ") }
}

fn instance(page: &mut Page, frame: &Frame, row: &InstanceRow) {
    page.title(&format!("Epoll instance {}", row.instance));
    let holders: Vec<String> = row.holders.iter().map(|h| format!("{}:{}", h.pid, h.fd)).collect();
    page.fact("held by", if holders.is_empty() { NONE.to_owned() } else { holders.join(" ") });
    page.fact("waiters", row.waiters.to_string());
    let rate = |count| units::number(frame.head.per_second(count));
    let ctl = &row.ctl;
    let failed = ctl.errors.values().sum::<u64>();
    page.fact(
        "epoll_ctl/s",
        format!(
            "add {}  mod {}  del {}  failed {}",
            rate(ctl.add),
            rate(ctl.r#mod),
            rate(ctl.del),
            rate(failed)
        ),
    );
    let watched = row.watched.map(|w| {
        format!(
            "{}  level {}  edge {}  oneshot {}  exclusive {}  stale {}  foreign {}",
            w.total, w.level, w.edge, w.oneshot, w.exclusive, w.stale, w.foreign
        )
    });
    page.fact("watched", or_none(watched));
    page.fact("depth", or_none(row.depth.map(|depth| depth.to_string())));
    let listeners =
        row.listeners.as_ref().map(|listeners| listeners.iter().map(shared).collect::<Vec<_>>().join("  "));
    page.fact("listeners", or_none(listeners.filter(|text| !text.is_empty())));
}

/// A listening socket that other loops watch too.
fn shared(listener: &ListenerRow) -> String {
    let share =
        listener.events_share.map_or(String::new(), |share| format!(", {:.0}% of the events", share * 100.0));
    format!("{} ({} loops{share})", sanitize(&listener.listener), listener.loops)
}

/// Rows that have something in common with this one, the busiest of them.
fn relatives(page: &mut Page, app: &App, row: &Row) {
    const SHOWN: usize = 20;
    let figures = &row.row;
    let of_process = |other: &&Row| other.row.pid == figures.pid && other.key != row.key;
    let of_program = |other: &&Row| other.row.comm == figures.comm && other.row.pid != figures.pid;
    let all = || app.list.lines().iter().map(|line| line.row.as_ref());
    for (title, rows) in [
        ("Other rows of this process", all().filter(of_process).collect::<Vec<_>>()),
        ("Other processes of this name", all().filter(of_program).collect()),
    ] {
        if rows.is_empty() {
            continue;
        }
        page.title(&format!("{title}: {}", rows.len()));
        for row in rows.iter().take(SHOWN) {
            let shares = crate::report::columns::utilization(&row.row);
            let name = cut(&sanitize(&crate::report::columns::name(&row.row)), 24);
            page.text(&format!(
                "{:>7} {:>7} {name:<24} {shares:<11} busy p99 {}",
                row.row.pid,
                row.row.tid,
                busy(&row.row, |busy| busy.p99)
            ));
        }
        if rows.len() > SHOWN {
            page.text(&format!("and {} more", rows.len() - SHOWN));
        }
    }
}
