//! Probes of the command's own: they alone count which descriptors deliver events. Beside a running agent, whose loops and
//! instances are shown, they see the processes of the inspected one's instances and nothing else.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use super::super::{Failure, Kernel, report};
use crate::{
    kernel::{Options, Watched, table::OF_EVENTS},
    model::{
        InstanceWindow, Window,
        hot::{Entries, Hot},
    },
    reactor::{Reactor, Watch},
};

/// The probes, and what they know of the window's begin.
pub struct Own {
    reactor: Reactor,
    /// What they have seen.
    pub watch: Watch,
    /// Why the sets of the begin are not known.
    lacks: Option<anyhow::Error>,
}

impl Own {
    /// Probes that watch the whole host, since others may hold and wait on the same instances as `pid`.
    ///
    /// # Errors
    /// As [`report::attach`].
    pub fn of_host(kernel: &Kernel, pid: u32) -> Result<Own, Failure> {
        Own::start(kernel, &Options { hot: Some(pid), ..report::options(kernel, &Watched::default())? })
    }

    /// Probes beside a running agent, in whose `window` are the instances of `pid` and those who hold or wait on them;
    /// and how many processes they see.
    ///
    /// # Errors
    /// As [`report::attach`].
    pub fn beside(kernel: &Kernel, pid: u32, window: &Window) -> Result<(Own, usize), Failure> {
        let holders =
            window.instances.iter().flat_map(|instance| &instance.holders).map(|(holder, _)| *holder);
        let waiting = window.loops.iter().map(|looped| looped.thread.tgid);
        let pids: BTreeSet<u32> = [pid].into_iter().chain(holders).chain(waiting).collect();
        if pids.len() > Watched::MAX_PIDS {
            return Err(Failure::cannot(format!(
                "{} processes hold or wait on its instances, more than the {} that can be looked at",
                pids.len(),
                Watched::MAX_PIDS
            )));
        }
        let count = pids.len();
        let watched = Watched { pids: pids.into_iter().collect(), ..Watched::default() };
        let options = Options { hot: Some(pid), only: Some(OF_EVENTS), ..report::options(kernel, &watched)? };
        Ok((Own::start(kernel, &options)?, count))
    }

    fn start(kernel: &Kernel, options: &Options) -> Result<Own, Failure> {
        let reactor = Reactor::new()?;
        let mut watch = report::attach(&reactor, kernel, options, None)?;
        let lacks = watch.keep_interest().err();
        Ok(Own { reactor, watch, lacks })
    }

    /// Watches; which entries delivered the events, as far as it is known: what is not, `notes` say.
    ///
    /// # Errors
    /// The probes cannot be read.
    pub fn watch(&mut self, duration: Duration, notes: &mut Vec<String>) -> Result<Option<Hot>, Failure> {
        report::wait(&self.reactor, &mut self.watch, duration)?;
        // The sets come before the last sample, so that what was added since the first is counted.
        let lacks = self.watch.read_interest().err();
        if let Some(error) = self.lacks.take().or(lacks) {
            notes.push(format!("what instances watch is not known: {error:#}"));
        }
        self.watch.sample()?;
        // At once: loops go on, and what they do from here on is in no other figure.
        Ok(self.watch.read_hot().map_err(|error| notes.push(format!("{error:#}"))).ok())
    }

    /// Puts what these probes know of the sets into an agent's window, whose instances have other numbers: they are the same
    /// where a process holds them by the same descriptor. Gives the entries by the agent's numbers.
    pub fn join(&mut self, hot: Option<&Hot>, window: &mut Window) -> HashMap<u64, Entries> {
        let own = self.watch.window();
        let mut holders = HashMap::new();
        for instance in &own.instances {
            holders.extend(instance.holders.iter().map(|holder| (*holder, instance)));
        }
        let same = |instance: &InstanceWindow| {
            instance.holders.iter().find_map(|holder| holders.get(holder).copied())
        };
        let numbers: HashMap<u64, u64> = window
            .instances
            .iter()
            .filter_map(|instance| Some((same(instance)?.number, instance.number)))
            .collect();
        let mut all = HashMap::new();
        for instance in &mut window.instances {
            let Some(same) = same(instance).filter(|same| same.set.is_some()) else { continue };
            let mut entries = self.watch.entries(same, hot);
            entries.nested.retain(|_, number| match numbers.get(number) {
                Some(theirs) => {
                    *number = *theirs;
                    true
                }
                None => false,
            });
            instance.set.clone_from(&same.set);
            all.insert(instance.number, entries);
        }
        all
    }
}
