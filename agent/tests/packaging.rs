//! What is packaged grants what the agent keeps, no more, and the tools that will read it take it.
#![cfg(test)]

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use loopscope::confine::KEPT;
use serde_json::Value;

/// `systemd-analyze security` of the unit, in tenths: what it may be at most. 9.6 is a unit that says nothing.
const EXPOSURE: &str = "26";

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging")
}

fn read(name: &str) -> String {
    fs::read_to_string(packaging().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The capabilities that the agent keeps, without CAP_.
fn kept() -> BTreeSet<String> {
    KEPT.iter().map(|(_, name, _)| name.trim_start_matches("CAP_").to_owned()).collect()
}

#[test]
fn the_unit_grants_what_the_agent_keeps() {
    let unit = read("systemd/loopscope.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let granted: BTreeSet<String> =
        line.split(' ').map(|name| name.trim_start_matches("CAP_").to_owned()).collect();
    assert_eq!(granted, kept());
}

#[test]
fn systemd_takes_the_unit_and_finds_it_hardened() {
    let here = Command::new("systemd-analyze").arg("--version").output();
    if !here.is_ok_and(|output| output.status.success()) {
        assert!(env::var_os("CI").is_none(), "CI must have systemd-analyze (Debian package systemd)");
        eprintln!("not run: there is no systemd-analyze");
        return;
    }
    // As it will be found: with a program that is there.
    let folder = env::temp_dir().join(format!("loopscope-unit-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("loopscope.service");
    let unit =
        read("systemd/loopscope.service").replace("/usr/bin/loopscope", env!("CARGO_BIN_EXE_loopscope"));
    fs::write(&file, unit).unwrap();
    let threshold = format!("--threshold={EXPOSURE}");
    let runs = [&["verify", "--man=no"][..], &["security", "--offline=true", "--no-pager", &threshold]];
    let outputs = runs.map(|args| Command::new("systemd-analyze").args(args).arg(&file).output().unwrap());
    fs::remove_dir_all(&folder).unwrap();
    for (args, output) in runs.iter().zip(outputs) {
        let said = String::from_utf8_lossy(&output.stdout);
        let refused = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}{refused}");
        // `verify` warns of what it ignores, such as a misspelt option, and calls it a success.
        assert!(!refused.contains("loopscope.service"), "{args:?}: {refused}");
        said.lines()
            .filter(|line| line.contains("Overall exposure level"))
            .for_each(|line| println!("{line}"));
    }
}

#[test]
fn the_manifest_is_what_kubernetes_takes_and_grants_what_the_agent_keeps() {
    let manifest: Value = serde_saphyr::from_str(&read("kubernetes/daemonset.yaml")).unwrap();
    let schema: Value = serde_json::from_str(&read("schema/daemonset-v1.37.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(&manifest).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert_eq!(errors, Vec::<String>::new());
    // A schema that takes everything would have said the same.
    let mut misspelt = manifest.clone();
    misspelt["spec"]["template"]["spec"]["hostPid"] = true.into();
    assert!(!validator.is_valid(&misspelt));
    let pod = &manifest["spec"]["template"]["spec"];
    let context = &pod["containers"][0]["securityContext"];
    let granted =
        context["capabilities"]["add"].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned());
    assert_eq!(granted.collect::<BTreeSet<_>>(), kept());
    assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]));
    assert_eq!(
        (&context["privileged"], &context["allowPrivilegeEscalation"]),
        (&false.into(), &false.into())
    );
    for mount in pod["containers"][0]["volumeMounts"].as_array().unwrap() {
        assert_eq!(mount["readOnly"], true, "{mount}");
    }
}

#[test]
fn the_image_says_how_to_grant_the_same() {
    let file = read("container/Containerfile").to_uppercase();
    let granted = file.split("--CAP-ADD=").nth(1).unwrap().split_whitespace().next().unwrap();
    assert_eq!(granted.split(',').map(str::to_owned).collect::<BTreeSet<_>>(), kept());
}

#[test]
fn the_packaged_configuration_is_good() {
    let file = packaging().join("systemd/agent.toml");
    let checked = Command::new(env!("CARGO_BIN_EXE_loopscope"))
        .args(["agent", "--config.check", "--config", file.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
}
