//! The lines at the top: where, since when, how much, what was lost, what it costs.

use ratatui::text::Line;

use super::Pen;
use crate::{
    report::{text, units},
    tui::{app::App, columns::COLUMNS, frame::Frame, theme::Tone},
};

/// At most three lines; where there is less room, the first ones count.
pub fn lines(app: &App, pen: Pen, width: usize) -> Vec<Line<'static>> {
    let Some(frame) = app.frame() else {
        return vec![
            pen.line("loopscope top", Tone::Title),
            pen.line("waiting for the first window", Tone::Faint),
        ];
    };
    if let Some(answer) = &frame.fleet {
        return super::fleet::head(app, frame, answer, pen, width);
    }
    vec![title(app, frame, pen, width), sums(app, frame, pen), settings(app, frame, pen, width)]
}

fn title(app: &App, frame: &Frame, pen: Pen, width: usize) -> Line<'static> {
    let head = &frame.head;
    let mut spans = vec![pen.span("loopscope top", Tone::Title)];
    let clock = humantime::format_rfc3339_seconds(frame.at).to_string();
    let clock = clock.get(11..19).unwrap_or_default().to_owned();
    let flags = flags(app);
    let wide = format!(
        "  {}  Linux {} {}  {} to {clock} UTC",
        head.host,
        head.kernel,
        head.arch,
        units::seconds(head.duration_seconds)
    );
    let narrow = format!("  {}  {clock}", head.host);
    let room = width.saturating_sub(13 + text::width(&flags) + 2);
    spans.push(
        pen.span(if text::width(&wide) <= room { wide } else { text::cut(&narrow, room) }, Tone::Plain),
    );
    if !flags.is_empty() {
        spans.push(pen.span("  ", Tone::Plain));
        spans.push(pen.span(flags, Tone::Cursor));
    }
    Line::from(spans)
}

/// What is other than usual.
fn flags(app: &App) -> String {
    let mut flags = Vec::new();
    if app.frozen {
        flags.push("FROZEN".to_owned());
    }
    if let Some(progress) = &app.progress {
        flags.push(progress.to_string());
    }
    flags.join(" ")
}

fn sums(app: &App, frame: &Frame, pen: Pen) -> Line<'static> {
    let sums = frame.sums;
    let mut what = format!("loops {}", sums.loops);
    if sums.waiters > 0 {
        what.push_str(&format!(" +{} waiters", sums.waiters));
    }
    let rates = [sums.waits, sums.events].map(|count| units::number(frame.head.per_second(count)));
    let [waits, events] = rates;
    let lost: Vec<String> = (app.lost.reasons().into_iter())
        .filter(|(_, count, _)| *count > 0)
        .map(|(reason, count, _)| format!("{reason} {}", units::count(count)))
        .collect();
    let rates = pen.span(format!("waits/s {waits}  events/s {events}"), Tone::Plain);
    // What was lost stands where even a narrow terminal shows it.
    Line::from(match lost.is_empty() {
        true => vec![pen.span(format!("{what}  lost 0  "), Tone::Plain), rates],
        false => vec![
            pen.span(format!("{what}  "), Tone::Plain),
            pen.span(format!("LOST {}", lost.join(", ")), Tone::Alarm),
            pen.span("  ", Tone::Plain),
            rates,
        ],
    })
}

fn settings(app: &App, frame: &Frame, pen: Pen, width: usize) -> Line<'static> {
    let share = |seconds: f64| frame.head.share_of_machine(seconds, frame.own.cpus).map(precise);
    let mut parts = Vec::new();
    if let Some(share) = frame.own.cpu_seconds.and_then(share) {
        parts.push(format!("agent {share}"));
    }
    if let Some(share) = frame.own.view_seconds.and_then(share) {
        parts.push(format!("top {share}"));
    }
    let measured = frame.head.measured_probe_seconds();
    if let Some(share) = share(measured.unwrap_or_else(|| frame.head.estimated_probe_seconds())) {
        let about = if measured.is_some() || share.starts_with('<') { "" } else { "~" };
        parts.push(format!("{} probes {about}{share} of {} CPUs", app.settings.source, frame.own.cpus));
    }
    if let Some(probe) = frame.head.probes.iter().find(|probe| probe.name.starts_with("epoll_")) {
        parts.push(format!("by {}", probe.backend));
    }
    let arrow = if app.reverse { " reversed" } else { "" };
    let sort = COLUMNS.get(app.settings.sort).map_or("", |column| column.head.header);
    parts.push(format!("sort {sort}{arrow}"));
    parts.push(format!("rows {}", app.settings.grouping.plural()));
    if !app.filter.is_empty() {
        parts.push(format!("filter /{}", app.filter));
    }
    if !frame.head.notes.is_empty() {
        parts.push(format!("{} notes, see report", frame.head.notes.len()));
    }
    pen.line(text::cut(&parts.join("  "), width), Tone::Faint)
}

/// A small share in percent, with a decimal; one that is above zero never shows as zero.
fn precise(share: f64) -> String {
    if share > 0.0 && share < 0.0005 { "<0.1%".to_owned() } else { format!("{:.1}%", share * 100.0) }
}
