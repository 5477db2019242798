//! Claims about processes of hosts that are laid out as runtimes and kubelet do it: a folder each, with /proc and
//! /var/log/pods.

use super::*;

const ID: &str = "9c1f0d2b7a6e4855b1d3c2a4f60718293a4b5c6d7e8f90a1b2c3d4e5f6a7b8c9";
const NODE: &str = "11aa22bb33cc44dd55ee66ff7788990011aa22bb33cc44dd55ee66ff77889900";
const UID: &str = "3f2a9c1d-7b4e-4d8a-9f60-1c2d3e4f5a6b";
const HASH: &str = "a0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5";

/// A host's file system, removed at the end.
struct Host(PathBuf);

impl Host {
    fn new(name: &str) -> Host {
        let root = std::env::temp_dir().join(format!("loopscope-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("proc")).unwrap();
        Host(root)
    }

    fn process(&self, pid: u32, cgroup: &str) {
        let folder = self.0.join(format!("proc/{pid}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("cgroup"), cgroup.replace("ID", ID).replace("NODE", NODE)).unwrap();
        fs::write(
            folder.join("stat"),
            format!("{pid} (a) b) S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 250 9\n"),
        )
        .unwrap();
        let _ = std::os::unix::fs::symlink("/usr/sbin/server", folder.join("exe"));
    }

    fn pod(&self, folder: &str) {
        let container = self.0.join("var/log/pods").join(folder).join("app");
        fs::create_dir_all(&container).unwrap();
        fs::write(container.join("0.log"), "").unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where a process is, the text of its /proc/PID/cgroup, and what it tells: unit, whether the container is [`ID`], and
/// the pod's UID.
type Case = (&'static str, &'static str, Option<&'static str>, bool, Option<&'static str>);

const V1: &str = "12:pids:PATH\n11:cpuset:PATH\n4:cpu,cpuacct:PATH\n1:name=systemd:PATH\n";

const CASES: &[Case] = &[
    ("systemd, v2", "0::/system.slice/redis-server.service\n", Some("redis-server.service"), false, None),
    (
        "systemd, an instance",
        "0::/system.slice/system-postgresql.slice/postgresql@15-main.service\n",
        Some("postgresql@15-main.service"),
        false,
        None,
    ),
    (
        "systemd, a user's",
        "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-code.scope\n",
        Some("app-code.scope"),
        false,
        None,
    ),
    (
        "systemd, a session",
        "0::/user.slice/user-0.slice/session-3.scope\n",
        Some("session-3.scope"),
        false,
        None,
    ),
    (
        "systemd, hybrid",
        "11:memory:/system.slice/nginx.service\n1:name=systemd:/system.slice/nginx.service\n0::/system.slice/nginx.service\n",
        Some("nginx.service"),
        false,
        None,
    ),
    ("docker, systemd driver, v2", "0::/system.slice/docker-ID.scope\n", Some("docker-ID.scope"), true, None),
    ("docker, cgroupfs driver, v2", "0::/docker/ID\n", None, true, None),
    (
        "docker, cgroupfs driver, v1",
        "12:pids:/docker/ID\n4:cpu,cpuacct:/docker/ID\n1:name=systemd:/docker/ID\n",
        None,
        true,
        None,
    ),
    (
        "docker, hybrid",
        "12:pids:/docker/ID\n1:name=systemd:/docker/ID\n0::/system.slice/containerd.service\n",
        Some("containerd.service"),
        true,
        None,
    ),
    (
        "docker, systemd driver, hybrid",
        "12:pids:/system.slice/docker-ID.scope\n1:name=systemd:/system.slice/docker-ID.scope\n0::/\n",
        Some("docker-ID.scope"),
        true,
        None,
    ),
    (
        "docker, all hierarchies of a hybrid host",
        "12:pids:/docker/ID\n1:name=systemd:/docker/ID\n0::/docker/ID\n",
        None,
        true,
        None,
    ),
    (
        "podman, hybrid",
        "12:pids:/machine.slice/libpod-ID.scope\n1:name=systemd:/machine.slice/libpod-ID.scope\n0::/machine.slice/libpod-ID.scope\n",
        Some("libpod-ID.scope"),
        true,
        None,
    ),
    (
        "podman, cgroupfs, hybrid",
        "12:pids:/libpod_parent/libpod-ID\n1:name=systemd:/libpod_parent/libpod-ID\n0::/\n",
        None,
        true,
        None,
    ),
    (
        "containerd, nerdctl, hybrid",
        "12:pids:/system.slice/nerdctl-ID.scope\n1:name=systemd:/system.slice/nerdctl-ID.scope\n0::/\n",
        Some("nerdctl-ID.scope"),
        true,
        None,
    ),
    (
        "containerd, a namespace, hybrid",
        "12:pids:/default/ID\n1:name=systemd:/default/ID\n0::/system.slice/containerd.service\n",
        Some("containerd.service"),
        true,
        None,
    ),
    (
        "kubelet, cgroupfs, hybrid",
        "12:pids:/kubepods/burstable/pod3f2a9c1d-7b4e-4d8a-9f60-1c2d3e4f5a6b/ID\n1:name=systemd:/kubepods/burstable/pod3f2a9c1d-7b4e-4d8a-9f60-1c2d3e4f5a6b/ID\n0::/\n",
        None,
        true,
        Some(UID),
    ),
    (
        "kubelet, cgroupfs, containerd, hybrid",
        "12:pids:/kubepods/burstable/pod3f2a9c1d-7b4e-4d8a-9f60-1c2d3e4f5a6b/ID\n1:name=systemd:/kubepods/burstable/pod3f2a9c1d-7b4e-4d8a-9f60-1c2d3e4f5a6b/ID\n0::/system.slice/containerd.service\n",
        Some("containerd.service"),
        true,
        Some(UID),
    ),
    (
        "kubelet, systemd, containerd, hybrid",
        "12:pids:/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod3f2a9c1d_7b4e_4d8a_9f60_1c2d3e4f5a6b.slice/cri-containerd-ID.scope\n1:name=systemd:/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod3f2a9c1d_7b4e_4d8a_9f60_1c2d3e4f5a6b.slice/cri-containerd-ID.scope\n0::/\n",
        Some("cri-containerd-ID.scope"),
        true,
        Some(UID),
    ),
    (
        "kubelet, systemd, CRI-O, hybrid",
        "12:pids:/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod3f2a9c1d_7b4e_4d8a_9f60_1c2d3e4f5a6b.slice/crio-ID.scope\n1:name=systemd:/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod3f2a9c1d_7b4e_4d8a_9f60_1c2d3e4f5a6b.slice/crio-ID.scope\n0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod3f2a9c1d_7b4e_4d8a_9f60_1c2d3e4f5a6b.slice/crio-ID.scope\n",
        Some("crio-ID.scope"),
        true,
        Some(UID),
    ),
    (
        "kubelet, cgroupfs, CRI-O, hybrid",
        "12:pids:/kubepods/burstable/pod3f2a9c1d-7b4e-4d8a-9f60-1c2d3e4f5a6b/crio-ID\n1:name=systemd:/kubepods/burstable/pod3f2a9c1d-7b4e-4d8a-9f60-1c2d3e4f5a6b/crio-ID\n0::/\n",
        None,
        true,
        Some(UID),
    ),
    (
        "kubelet, systemd, docker, hybrid",
        "12:pids:/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod3f2a9c1d_7b4e_4d8a_9f60_1c2d3e4f5a6b.slice/docker-ID.scope\n1:name=systemd:/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod3f2a9c1d_7b4e_4d8a_9f60_1c2d3e4f5a6b.slice/docker-ID.scope\n0::/\n",
        Some("docker-ID.scope"),
        true,
        Some(UID),
    ),
    (
        "docker, rootless",
        "0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope\n",
        Some("docker-ID.scope"),
        true,
        None,
    ),
    (
        "docker, systemd inside",
        "0::/system.slice/docker-ID.scope/system.slice/nginx.service\n",
        Some("nginx.service"),
        true,
        None,
    ),
    ("docker in docker", "0::/docker/NODE/docker/ID\n", None, true, None),
    ("podman, systemd", "0::/machine.slice/libpod-ID.scope/container\n", Some("libpod-ID.scope"), true, None),
    (
        "podman, rootless",
        "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container\n",
        Some("libpod-ID.scope"),
        true,
        None,
    ),
    (
        "podman, cgroupfs, v1",
        "4:cpu,cpuacct:/libpod_parent/libpod-ID\n1:name=systemd:/libpod_parent/libpod-ID\n",
        None,
        true,
        None,
    ),
    (
        "podman, a pod of its own",
        "0::/machine.slice/machine-libpod_pod_NODE.slice/libpod-ID.scope/container\n",
        Some("libpod-ID.scope"),
        true,
        None,
    ),
    (
        "podman, its monitor",
        "0::/machine.slice/libpod-conmon-ID.scope\n",
        Some("libpod-conmon-ID.scope"),
        false,
        None,
    ),
    ("containerd, nerdctl", "0::/system.slice/nerdctl-ID.scope\n", Some("nerdctl-ID.scope"), true, None),
    ("containerd, a namespace", "0::/default/ID\n", None, true, None),
    (
        "kubelet, cgroupfs, v2",
        "0::/kubepods/burstable/pod3f2a9c1d-7b4e-4d8a-9f60-1c2d3e4f5a6b/ID\n",
        None,
        true,
        Some(UID),
    ),
    (
        "kubelet, cgroupfs, guaranteed",
        "0::/kubepods/pod3f2a9c1d-7b4e-4d8a-9f60-1c2d3e4f5a6b/ID\n",
        None,
        true,
        Some(UID),
    ),
    (
        "kubelet, cgroupfs, v1",
        "4:cpu,cpuacct:/kubepods/besteffort/pod3f2a9c1d-7b4e-4d8a-9f60-1c2d3e4f5a6b/ID\n1:name=systemd:/kubepods/besteffort/pod3f2a9c1d-7b4e-4d8a-9f60-1c2d3e4f5a6b/ID\n",
        None,
        true,
        Some(UID),
    ),
    (
        "kubelet, systemd, containerd",
        "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod3f2a9c1d_7b4e_4d8a_9f60_1c2d3e4f5a6b.slice/cri-containerd-ID.scope\n",
        Some("cri-containerd-ID.scope"),
        true,
        Some(UID),
    ),
    (
        "kubelet, systemd, guaranteed",
        "0::/kubepods.slice/kubepods-pod3f2a9c1d_7b4e_4d8a_9f60_1c2d3e4f5a6b.slice/cri-containerd-ID.scope\n",
        Some("cri-containerd-ID.scope"),
        true,
        Some(UID),
    ),
    (
        "kubelet, systemd, CRI-O",
        "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod3f2a9c1d_7b4e_4d8a_9f60_1c2d3e4f5a6b.slice/crio-ID.scope\n",
        Some("crio-ID.scope"),
        true,
        Some(UID),
    ),
    (
        "kubelet, systemd, CRI-O, nested",
        "0::/kubepods.slice/kubepods-pod3f2a9c1d_7b4e_4d8a_9f60_1c2d3e4f5a6b.slice/crio-ID.scope/container\n",
        Some("crio-ID.scope"),
        true,
        Some(UID),
    ),
    (
        "kubelet, CRI-O's monitor",
        "0::/kubepods.slice/kubepods-pod3f2a9c1d_7b4e_4d8a_9f60_1c2d3e4f5a6b.slice/crio-conmon-ID.scope\n",
        Some("crio-conmon-ID.scope"),
        false,
        Some(UID),
    ),
    (
        "kubelet, cgroupfs, CRI-O",
        "0::/kubepods/burstable/pod3f2a9c1d-7b4e-4d8a-9f60-1c2d3e4f5a6b/crio-ID\n",
        None,
        true,
        Some(UID),
    ),
    (
        "kubelet, systemd, docker, v1",
        "4:cpu,cpuacct:/kubepods.slice/kubepods-pod3f2a9c1d_7b4e_4d8a_9f60_1c2d3e4f5a6b.slice/docker-ID.scope\n1:name=systemd:/kubepods.slice/kubepods-pod3f2a9c1d_7b4e_4d8a_9f60_1c2d3e4f5a6b.slice/docker-ID.scope\n",
        Some("docker-ID.scope"),
        true,
        Some(UID),
    ),
    (
        "kubelet, systemd's names without its driver",
        "0::/system.slice/containerd.service/kubepods-burstable-pod3f2a9c1d_7b4e_4d8a_9f60_1c2d3e4f5a6b.slice:cri-containerd:ID\n",
        Some("containerd.service"),
        true,
        Some(UID),
    ),
    (
        "kubelet, a pod of a file",
        "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-poda0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5.slice/cri-containerd-ID.scope\n",
        Some("cri-containerd-ID.scope"),
        true,
        Some(HASH),
    ),
    (
        "kind",
        "0::/docker/NODE/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod3f2a9c1d_7b4e_4d8a_9f60_1c2d3e4f5a6b.slice/cri-containerd-ID.scope\n",
        Some("cri-containerd-ID.scope"),
        true,
        Some(UID),
    ),
    (
        "seen from a cgroup namespace",
        "0::/../../kubepods-burstable-pod3f2a9c1d_7b4e_4d8a_9f60_1c2d3e4f5a6b.slice/cri-containerd-ID.scope\n",
        Some("cri-containerd-ID.scope"),
        true,
        Some(UID),
    ),
    ("a kernel thread", "0::/\n", None, false, None),
    ("nothing", "", None, false, None),
    ("nonsense", "::\n:::::\n\u{1}\n0::\n", None, false, None),
];

#[test]
fn unit_container_and_pod_are_found_as_each_runtime_writes_them() {
    let host = Host::new("runtimes");
    for (pid, (_, cgroup, ..)) in (1..).zip(CASES) {
        host.process(pid, cgroup);
    }
    let mut processes = Processes::below(&host.0);
    for (pid, (name, _, unit, contained, pod)) in (1..).zip(CASES) {
        let found = processes.get(pid);
        assert_eq!(found.unit, unit.map(|unit| unit.replace("ID", ID)), "unit of {name}");
        assert_eq!(found.container.as_deref(), contained.then_some(ID), "container of {name}");
        assert_eq!(found.pod.as_ref().map(|pod| pod.uid.as_str()), *pod, "pod of {name}");
        assert_eq!(found.exe.as_deref(), Some("/usr/sbin/server"), "{name}");
    }
}

#[test]
fn every_hierarchy_of_a_v1_host_is_known() {
    let host = Host::new("v1");
    host.process(7, &V1.replace("PATH", "/docker/ID"));
    let process = Processes::below(&host.0).get(7);
    assert_eq!(process.cgroups, vec![format!("/docker/{ID}"); 4]);
    assert_eq!((process.cgroup.as_ref(), process.container.as_deref()), (process.cgroups.first(), Some(ID)));
}

#[test]
fn a_pod_has_its_name_where_kubelet_writes_logs_and_new_pods_are_found() {
    let host = Host::new("pods");
    let cgroup = |uid: &str| format!("0::/kubepods/burstable/pod{uid}/ID\n");
    host.process(1, &cgroup(UID));
    host.process(2, &cgroup(HASH));
    let mut processes = Processes::below(&host.0);
    let named = |processes: &mut Processes, pid| processes.get(pid).pod.as_ref().unwrap().to_string();
    assert_eq!(named(&mut processes, 1), UID, "no folder");
    host.pod(&format!("kube-system_etcd-node1_{HASH}"));
    host.pod("not-a-pod");
    assert_eq!(named(&mut processes, 2), "kube-system/etcd-node1");
    // It was asked for once, and is not looked for again until the folder is read for another one.
    host.pod(&format!("shop_cart-7d9f8_{UID}"));
    let other = UID.replace('3', "4");
    host.process(3, &cgroup(&other));
    assert_eq!(named(&mut processes, 3), other);
    assert_eq!(named(&mut processes, 1), "shop/cart-7d9f8");
}

#[test]
fn the_own_process_is_known_and_one_that_never_was_is_not() {
    let mut processes = Processes::default();
    let own = processes.get(std::process::id());
    assert_eq!(own.exe.as_deref(), std::env::current_exe().unwrap().to_str());
    let now = clock_gettime(ClockId::Monotonic).tv_sec.unsigned_abs() * 1_000_000_000;
    assert!(own.started_ns.unwrap() <= now + 1_000_000_000, "{own:?} at {now}");
    assert_eq!(*processes.get(u32::MAX), Process::default());
}

#[test]
fn a_process_whose_first_thread_has_ended_has_the_executable_of_another() {
    let host = Host::new("headless");
    host.process(6, "0::/\n");
    let folder = host.0.join("proc/6");
    fs::remove_file(folder.join("exe")).unwrap();
    assert_eq!(Processes::below(&host.0).get(6).exe, None);
    for thread in ["6", "7"] {
        fs::create_dir_all(folder.join("task").join(thread)).unwrap();
    }
    std::os::unix::fs::symlink("/usr/sbin/server", folder.join("task/7/exe")).unwrap();
    assert_eq!(Processes::below(&host.0).get(6).exe.as_deref(), Some("/usr/sbin/server"));
}

#[test]
fn a_process_that_is_gone_is_as_it_was() {
    let host = Host::new("gone");
    host.process(5, "0::/docker/ID\n");
    let mut processes = Processes::below(&host.0);
    let seen = processes.get(5);
    fs::remove_dir_all(host.0.join("proc/5")).unwrap();
    assert_eq!(processes.get(5), seen);
}

#[test]
fn a_start_is_read_behind_any_name() {
    let ticks = 1_000_000_000 / clock_ticks_per_second();
    let fields = "S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 250 9";
    assert_eq!(started(&format!("5 (a) b (c)) {fields}\n")), Some(250 * ticks));
    for damaged in ["", "5 (a", "5 (a) S 1", "5 (a) S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 x 9"] {
        assert_eq!(started(damaged), None, "{damaged}");
    }
}
