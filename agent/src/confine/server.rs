//! The thread that hears the network: it has its sockets, and needs neither files nor capabilities nor other processes.

use anyhow::{Context, Result, bail};
use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};

use super::capabilities;

/// Confines the calling thread and those that it starts.
///
/// # Errors
/// What of it is not in force, in one line.
pub fn server() -> Result<(), String> {
    let capabilities::Kept { bounding: _, effective } = capabilities::none();
    effective.map_err(|error| format!("it keeps its capabilities: {error}"))?;
    landlock().map_err(|error| format!("{error:#}"))
}

/// A Landlock domain without a single right: no file can be opened, no port bound or connected to, nothing outside of it
/// signalled or looked into. What is open stays open.
pub fn landlock() -> Result<()> {
    let rules = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(ABI::V5)))
        .and_then(|rules| rules.scope(Scope::from_all(ABI::V6)))
        .and_then(Ruleset::create)
        .context("Landlock refuses the rules")?;
    let status = rules.restrict_self().context("Landlock is refused")?;
    if status.ruleset == RulesetStatus::NotEnforced {
        bail!("this kernel has no Landlock (Linux 5.13, and landlock among its LSMs)");
    }
    Ok(())
}
