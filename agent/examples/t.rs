//! scratch
use std::os::fd::AsFd;
fn main() {
    let ep = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
    let mut k = loopscope::kernel::Kernel::start(&Default::default(), ep.as_fd()).unwrap();
    println!("{:?}", k.start_time);
    for p in k.probes() { println!("{} {:?} {:?}", p.probe.name, p.backend(), p.error()); }
    for p in aya::programs::loaded_programs().flatten() { println!("{:?} verified={:?} xlated jited={} loadtime={:?}", p.name_as_str(), p.verified_instruction_count(), p.size_jitted(), p.loaded_at().map(|t| t.elapsed())); }
    std::thread::sleep(std::time::Duration::from_secs(1));
    let mut b = vec![];
    k.pass(&mut b).unwrap();
    let t = std::time::Instant::now();
    b.clear();
    k.pass(&mut b).unwrap();
    println!("{} bytes {:?}", b.len(), t.elapsed());
    let mut at = 0;
    while at < b.len() {
        let h = loopscope_probe::Head::read(&b[at..]).unwrap();
        println!("{:?} {} {}", h, String::from_utf8_lossy(&h.comm), String::from_utf8_lossy(&h.thread));
        let body = &b[at + 128..at + h.size as usize];
        match h.kind { 0 => { let l = loopscope_probe::Loop::read(body).unwrap(); println!("{:?} {:?} {} {}", l.results, l.timeouts, l.wait_ns, l.busy_ns) }
          1 => println!("{:?}", loopscope_probe::Ctl::read(body).unwrap()),
          2 => println!("{:?}", loopscope_probe::Counters::read(body).unwrap()), _ => {} }
        at += h.size as usize;
    }
}
