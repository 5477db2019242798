//! `cargo xtask dashboards`: Grafana's dashboards and Prometheus' rules, from tables that are checked against the agent's
//! own table of metrics.
//!
//! What is committed in dashboards/ is made here alone. Must not look at a running agent except for `--verify`.

mod alerts;
mod expression;
mod json;
mod names;
mod overview;
mod own;
mod panel;
mod process;
mod recordings;
mod rules;
mod verify;
mod workers;

#[cfg(test)]
mod tests;

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::process as programs;
use expression::ALL;
use panel::{Dashboard, expand};

/// Every dashboard.
const DASHBOARDS: [&Dashboard; 4] = [&overview::OVERVIEW, &process::PROCESS, &workers::WORKERS, &own::AGENT];

/// Seconds of load that are looked at: enough for a few rates.
const SECONDS: u64 = 40;

/// What to do with them.
#[derive(Args)]
pub struct DashboardsArgs {
    /// Write nothing: say what differs from the committed files, and which names are wrong
    #[arg(long)]
    check: bool,
    /// Start Prometheus, the agent and real load on loopback, and evaluate every expression; needs root
    #[arg(long, conflicts_with = "check")]
    verify: bool,
    /// The agent of this profile
    #[arg(long, requires = "verify", default_value = "release", value_parser = ["release", "debug"])]
    profile: String,
    /// How many seconds of load to look at
    #[arg(long, requires = "verify", default_value_t = SECONDS, value_parser = clap::value_parser!(u64).range(20..=3600))]
    seconds: u64,
}

/// Runs the command.
///
/// # Errors
/// A name is wrong; a committed file differs; something has no data.
pub fn run(args: &DashboardsArgs) -> Result<()> {
    let root = programs::workspace_root()?;
    faults()?;
    if args.verify {
        return verify::run(&root, args.profile == "release", args.seconds);
    }
    if args.check { check(&root) } else { write(&root) }
}

/// `--check`.
///
/// # Errors
/// As [`run`].
pub fn check_committed(root: &Path) -> Result<()> {
    faults()?;
    check(root)
}

/// `--verify`, with the release build, as the tests do it.
///
/// # Errors
/// As [`run`].
pub fn verify(root: &Path) -> Result<()> {
    verify::run(root, true, SECONDS)
}

/// Every file that is made here: its path below the root, and its content.
fn files() -> Vec<(String, String)> {
    let dashboards = DASHBOARDS
        .iter()
        .map(|dashboard| (format!("dashboards/{}.json", dashboard.uid), json::file(dashboard)));
    dashboards.chain([("dashboards/rules/loopscope.rules.yml".to_owned(), rules::file())]).collect()
}

fn write(root: &Path) -> Result<()> {
    for (name, text) in files() {
        let path = root.join(&name);
        if fs::read_to_string(&path).is_ok_and(|committed| committed == text) {
            println!("{name}: as it was");
            continue;
        }
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        println!("{name}: written");
    }
    Ok(())
}

fn check(root: &Path) -> Result<()> {
    let mut differing = Vec::new();
    for (name, text) in files() {
        let same = fs::read_to_string(root.join(&name)).is_ok_and(|committed| committed == text);
        println!("  {name}: {}", if same { "as the tables say" } else { "DIFFERS" });
        if !same {
            differing.push(name);
        }
    }
    if !differing.is_empty() {
        bail!(
            "{} differ from what the tables give; run `cargo xtask dashboards` and commit the result",
            differing.join(", ")
        );
    }
    Ok(())
}

/// Every expression, with where it stands.
fn expressions() -> Vec<(String, String)> {
    let panels =
        DASHBOARDS.iter().flat_map(|dashboard| dashboard.panels().map(move |panel| (dashboard, panel)));
    let of_panels = panels.flat_map(|(dashboard, panel)| {
        let place = format!("{}: {}", dashboard.title, panel.title);
        panel.targets.iter().map(move |(expression, _)| (place.clone(), ALL.fill(&expand(expression))))
    });
    of_panels.chain(rules::expressions()).collect()
}

/// Fails where an expression does not parse, or names what there is not.
fn faults() -> Result<()> {
    let mut faults = names::outdated();
    let recorded: Vec<&str> = recordings::RECORDINGS.iter().map(|rule| rule.name).collect();
    for (place, expression) in expressions() {
        match expression::names(&expression) {
            Ok(found) => faults.extend(
                names::faults(&found, &recorded).into_iter().map(|fault| format!("{place}: {fault}")),
            ),
            Err(error) => faults.push(format!("{place}: {error:#}")),
        }
    }
    faults.iter().for_each(|fault| println!("  {fault}"));
    if !faults.is_empty() {
        bail!("{} faults in the tables of dashboards and rules", faults.len());
    }
    Ok(())
}
