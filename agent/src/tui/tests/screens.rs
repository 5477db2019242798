//! Every screen, in every size that matters.

use super::{
    super::{frame::Frame, player::Progress},
    world::World,
    *,
};

/// Columns and rows: the narrowest that is of use, the classic one, a usual window, a wall.
const SIZES: [(u16, u16); 4] = [(40, 10), (80, 24), (120, 40), (200, 60)];

fn check(name: &str, app: &mut App) {
    let mut all = String::new();
    for (width, height) in SIZES {
        let screen = screen(app, width, height);
        assert!(screen.lines().all(|line| crate::report::text::width(line) <= width.into()));
        all.push_str(&format!("--- {width} x {height}\n{screen}"));
    }
    insta::with_settings!({ snapshot_path => "snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, all);
    });
}

fn usual() -> World {
    World::new()
        .with("nginx", 1201, (2_000_000, 210_000, 400))
        .with("nginx", 1202, (2_000_000, 70_000, 400))
        .with("redis-server", 812, (100_000, 930_000, 900))
        .with("node", 2044, (5_000_000, 20_000_000, 40))
        .with_poller("cron", 77)
}

fn after(world: &mut World, seconds: usize) -> App {
    let mut app = app();
    (0..seconds).for_each(|_| app.on_frame(world.second()));
    app
}

#[test]
fn before_the_first_window() {
    check("first", &mut app());
}

#[test]
fn no_loops() {
    check("none", &mut after(&mut World::new(), 1));
}

#[test]
fn one_loop() {
    check("one", &mut after(&mut World::new().with("redis-server", 812, (100_000, 80_000, 900)), 3));
}

#[test]
fn a_usual_host() {
    check("usual", &mut after(&mut usual(), 12));
}

#[test]
fn two_thousand_loops() {
    let mut app = after(&mut World::crowd(), 2);
    check("crowd", &mut app);
    type_in(&mut app, "g");
    check("crowd-processes", &mut app);
    type_in(&mut app, "g");
    check("crowd-containers", &mut app);
}

#[test]
fn hostile_names() {
    let mut world = World::new()
        .with("\u{1b}[2J\u{1b}]0;x\u{7}", 10, (200_000, 100_000, 100))
        .with("日本語日本", 20, (200_000, 200_000, 100))
        .with("a\u{200b}\u{202e}b\u{301}", 30, (200_000, 300_000, 100))
        .with("\n\r\t\0x", 40, (200_000, 400_000, 100))
        .with("", 50, (200_000, 500_000, 100));
    let mut app = after(&mut world, 2);
    check("hostile", &mut app);
    app.on_key(Key::End);
    app.on_key(Key::Enter);
    check("hostile-detail", &mut app);
}

#[test]
fn something_was_lost() {
    let mut world = usual();
    world.lost = 12_345;
    check("lost", &mut after(&mut world, 2));
}

#[test]
fn one_row_in_full() {
    let mut world = usual();
    let mut app = after(&mut world, 20);
    world.loopers[2].pace = (3_000_000, 50_000, 100);
    (0..8).for_each(|_| app.on_frame(world.second()));
    type_in(&mut app, "/redis");
    app.on_key(Key::Enter);
    app.on_key(Key::Enter);
    check("detail", &mut app);
    app.on_key(Key::End);
    check("detail-end", &mut app);
}

#[test]
fn what_lies_over_the_table() {
    for (name, keys) in [
        ("help", "?"),
        ("sort", "s"),
        ("columns", "cjjj "),
        ("filter", "/ngi"),
        ("frozen", "f"),
        ("reversed", "r"),
    ] {
        let mut app = after(&mut usual(), 3);
        type_in(&mut app, keys);
        check(name, &mut app);
    }
}

#[test]
fn the_end_of_a_replay() {
    let mut app = App::new(Settings { replay: true, ..app().settings });
    let mut world = usual();
    (0..3).for_each(|_| app.on_frame(world.second()));
    app.progress = Some(Progress { position: 60.0, length: 60.0, paused: false, speed: 4.0, ended: true });
    check("replay-end", &mut app);
    type_in(&mut app, "t12:0");
    check("replay-seek", &mut app);
    app.on_key(Key::Esc);
    app.notice = Some("the recording is damaged at byte 77".to_owned());
    check("notice", &mut app);
}

#[test]
fn many_hosts() {
    let mut app = App::new(Settings { fleet: true, grouping: Grouping::Program, ..app().settings });
    let mut answer = crate::fleet::tests::three_hosts();
    // The port is another one each time.
    answer.document.from = "http://prometheus:9090".to_owned();
    app.on_frame(Frame::of_fleet(answer.clone()));
    check("fleet", &mut app);
    app.on_key(Key::Enter);
    check("fleet-detail", &mut app);
    app.on_key(Key::Esc);
    app.on_failure("http://prometheus:9090: answers 503: \u{1b}[2Jgone".to_owned());
    check("fleet-old", &mut app);
    type_in(&mut app, "g");
    assert!(app.notice.as_ref().is_some_and(|notice| notice.contains("--group-by")));
    app.on_frame(Frame::of_fleet(answer));
    assert_eq!(app.old, None, "the server is back");
    type_in(&mut app, "/web-2");
    assert_eq!(app.list.shown().count(), 1);
}

#[test]
fn rows_that_ended() {
    let mut world = usual();
    let mut app = after(&mut world, 3);
    world.loopers.remove(2);
    (0..3).for_each(|_| app.on_frame(world.second()));
    check("ended", &mut app);
}
