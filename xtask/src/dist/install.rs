//! Tries the Debian package: installs it into a folder that stands for /, runs what it brought, and removes it.
//!
//! By dpkg's own `--root`, so that nothing of this host changes. Must fail where anything is missing or left.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::process;

use super::{fresh, layout::Files};

/// What dpkg wants to find.
const DATABASE: [&str; 4] = ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "var/log"];

/// Installs, runs, removes.
pub fn trial(package: &Path, folder: &Path) -> Result<()> {
    println!("trying {}", package.display());
    let folder = fresh(folder)?;
    for place in DATABASE {
        fs::create_dir_all(folder.join(place))?;
    }
    fs::write(folder.join("var/lib/dpkg/status"), "")?;
    process::run(dpkg(&folder).arg("--install").arg(package))?;
    let installed: Vec<PathBuf> = Files::places().map(|place| folder.join(place)).collect();
    if let Some(missing) = installed.iter().find(|file| !file.is_file()) {
        bail!("the package has no {}", missing.display());
    }
    let program = folder.join("usr/bin/loopscope");
    // In the folder there is no library: a program that is not static does not start.
    process::run(Command::new("chroot").arg(&folder).args(["/usr/bin/loopscope", "--version"]))?;
    let report = ["report", "--standalone", "--duration", "1s", "--format", "json"];
    let said = process::run_for_output(Command::new(&program).args(report))?;
    if !said.contains("\"loops\"") {
        bail!("the installed program's report has no loops");
    }
    if process::find("systemd-analyze").is_some() {
        verify_unit(&folder)?;
    }
    process::run(dpkg(&folder).args(["--purge", "loopscope"]))?;
    if let Some(left) = installed.iter().find(|file| file.exists()) {
        bail!("{} is left after the package was removed", left.display());
    }
    fs::remove_dir_all(&folder).context("remove the folder of the trial")?;
    println!("the package installs, runs and leaves nothing behind");
    Ok(())
}

fn dpkg(folder: &Path) -> Command {
    let mut root = std::ffi::OsString::from("--root=");
    root.push(folder);
    let mut command = Command::new("dpkg");
    command.arg(root).args(["--log=/dev/null", "--force-not-root"]);
    command
}

/// `systemd-analyze verify`, of a copy whose program is the installed one.
fn verify_unit(folder: &Path) -> Result<()> {
    let unit = fs::read_to_string(folder.join("usr/lib/systemd/system/loopscope.service"))?;
    let program = folder.join("usr/bin/loopscope");
    let copy = folder.join("loopscope.service");
    fs::write(&copy, unit.replace("/usr/bin/loopscope", &program.to_string_lossy()))?;
    process::run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy))
}
