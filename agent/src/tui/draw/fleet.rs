//! What is drawn otherwise where rows are of many hosts: the head, and one row in full.

use ratatui::text::Line;

use super::Pen;
use crate::{
    fleet::{
        Answer,
        document::{FleetRow, Quantiles},
    },
    report::{
        columns::{NONE, or_none, time, utilization},
        group::Row,
        text::{cut, sanitize},
        units,
    },
    tui::{app::App, columns::COLUMNS, frame::Frame, theme::Tone},
};

/// What was asked where; of which hosts something is known, and what they did not record.
pub fn head(app: &App, frame: &Frame, answer: &Answer, pen: Pen, width: usize) -> Vec<Line<'static>> {
    let document = &answer.document;
    let flag = app.old.as_ref().map(|_| "OLD".to_owned()).into_iter();
    let flags: Vec<String> = flag.chain(app.frozen.then(|| "FROZEN".to_owned())).collect();
    let flags = flags.join(" ");
    let clock = document.at.get(11..19).unwrap_or_default();
    let what = format!("  {clock} UTC  over {} s  {}", document.window_seconds, document.from);
    let what = cut(&sanitize(&what), width.saturating_sub(13 + flags.len() + 2));
    let mut title = vec![pen.span("loopscope top", Tone::Title), pen.span(what, Tone::Plain)];
    if !flags.is_empty() {
        title.extend([pen.span("  ", Tone::Plain), pen.span(flags, Tone::Cursor)]);
    }
    let scraped = document.hosts.iter().filter(|host| host.scraped).count();
    let all = document.hosts.len();
    let hosts = if scraped == all { format!("hosts {all}") } else { format!("HOSTS {scraped} of {all}") };
    let rate = |count| units::number(frame.head.per_second(count));
    let lost: Vec<String> = (document.lost_per_second.iter())
        .map(|(reason, rate)| format!("{reason} {}/s", units::number(*rate)))
        .collect();
    let sums = Line::from(vec![
        pen.span(format!("{hosts}  "), if scraped == all { Tone::Plain } else { Tone::Alarm }),
        match lost.is_empty() {
            true => pen.span("lost 0", Tone::Plain),
            false => pen.span(format!("LOST {}", lost.join(", ")), Tone::Alarm),
        },
        pen.span(
            format!(
                "  loops {} +{} waiters  waits/s {}  events/s {}",
                frame.sums.loops,
                frame.sums.waiters,
                rate(frame.sums.waits),
                rate(frame.sums.events)
            ),
            Tone::Plain,
        ),
    ]);
    let sort = COLUMNS.get(app.settings.sort).map_or("", |column| column.head.header);
    let mut settings = vec![format!("sort {sort}{}", if app.reverse { " reversed" } else { "" })];
    if !app.filter.is_empty() {
        settings.push(format!("filter /{}", app.filter));
    }
    settings.push("- is not in the metrics".to_owned());
    settings.extend(document.notes.iter().cloned());
    let settings = cut(&sanitize(&settings.join("  ")), width);
    vec![Line::from(title), sums, pen.line(settings, Tone::Faint)]
}

/// All that is known of a row, and the same on other hosts.
pub fn detail(answer: &Answer, row: &Row, pen: Pen, width: usize) -> Vec<Line<'static>> {
    let place = answer.rows.iter().position(|other| other.key == row.key);
    let Some(known) = place.and_then(|place| answer.document.loops.get(place)) else {
        return vec![pen.line("It ended, and its figures are gone; Esc goes back.", Tone::Faint)];
    };
    let mut lines =
        vec![pen.line(cut(&sanitize(&format!("{}  {}", row.row.comm, row.key.host)), width), Tone::Title)];
    for (name, value) in facts(known, answer.document.window_seconds) {
        let value = cut(&sanitize(&value), width.saturating_sub(13));
        lines.push(Line::from(vec![
            pen.span(format!("{name:<12} "), Tone::Name),
            pen.span(value, Tone::Plain),
        ]));
    }
    let same = |other: &&std::sync::Arc<Row>| {
        other.row.comm == row.row.comm && other.key.mechanism == row.key.mechanism && other.key != row.key
    };
    let others: Vec<_> = answer.rows.iter().filter(same).collect();
    if !others.is_empty() {
        lines.push(Line::default());
        lines.push(pen.line(format!("The same elsewhere: {}", others.len()), Tone::Title));
    }
    for other in others {
        let host = cut(&sanitize(&other.key.host), 24);
        let busy = time(other.row.busy_seconds.and_then(|busy| busy.p99));
        let text = format!("{host:<24} {:<11} busy p99 {busy}", utilization(&other.row));
        lines.push(pen.line(cut(&text, width), Tone::Plain));
    }
    lines.push(Line::default());
    let more = "Heat maps, threads and largest values are not in the metrics: `loopscope top` on that host has them.";
    lines.push(pen.line(cut(more, width), Tone::Faint));
    lines
}

fn facts(row: &FleetRow, window: u64) -> Vec<(&'static str, String)> {
    let number = |value: Option<f64>| or_none(value.map(units::number));
    let share = |value: Option<f64>| or_none(value.map(units::percent));
    let count = |value: Option<u64>| or_none(value.map(units::count));
    let times = |of: &Quantiles| format!("p50 {}  p99 {}", time(of.p50), time(of.p99));
    let names = [
        ("job", &row.job),
        ("executable", &row.exe),
        ("cgroup", &row.cgroup),
        ("unit", &row.unit),
        ("container", &row.container),
        ("pod", &row.pod),
    ];
    let named = names.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
    let mut facts: Vec<(&'static str, String)> = named.collect();
    facts.extend([
        ("over", format!("{window} s")),
        ("mechanism", row.mechanism.clone()),
        ("loops", format!("{}  with other waiters {}", count(row.loops), count(row.waiters))),
        ("utilisation", share(row.utilization)),
        ("wait", times(&row.wait_seconds)),
        ("busy", format!("{}  now for {}", times(&row.busy_seconds), time(row.current_busy_seconds))),
        (
            "waits",
            format!(
                "{}/s  {} events/s  {} per wait",
                number(row.waits_per_second),
                number(row.events_per_second),
                number(row.events_per_wait)
            ),
        ),
        ("ended by", format!("saturated {}  empty {}", share(row.saturated_share), share(row.empty_share))),
        ("backlog", format!("p50 {}  p99 {}", number(row.backlog.p50), number(row.backlog.p99))),
        (
            "watched",
            format!(
                "{}  level {}  edge {}  stale {}",
                count(row.watched),
                count(row.level),
                count(row.edge),
                count(row.stale)
            ),
        ),
        ("thread", row.thread.clone().unwrap_or_else(|| NONE.to_owned())),
    ]);
    facts
}
