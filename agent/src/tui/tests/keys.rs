//! Claims about keys.

use super::{super::app, super::app::Popup, super::app::Screen, world::World, *};

fn names(app: &App) -> Vec<String> {
    app.list.shown().map(|line| line.row.row.comm.clone()).collect()
}

fn three() -> World {
    World::new()
        .with("nginx", 10, (200_000, 100_000, 100))
        .with("redis-server", 20, (200_000, 800_000, 900))
        .with("node", 30, (200_000, 400_000, 500))
}

fn shown(world: &mut World) -> App {
    let mut app = app();
    app.on_frame(world.second());
    app.on_frame(world.second());
    app
}

#[test]
fn rows_are_sorted_by_utilisation_and_r_reverses() {
    let mut app = shown(&mut three());
    assert_eq!(names(&app), ["redis-server", "node", "nginx"]);
    type_in(&mut app, "r");
    assert_eq!(names(&app), ["nginx", "node", "redis-server"]);
}

#[test]
fn the_sort_menu_takes_any_column() {
    let mut app = shown(&mut three());
    type_in(&mut app, "skk");
    assert_eq!(app.popup, Some(Popup::Sort(UTIL - 2)));
    app.on_key(Key::Enter);
    assert_eq!(
        (names(&app), app.popup.clone()),
        (vec!["nginx".into(), "node".into(), "redis-server".into()], None)
    );
}

#[test]
fn the_cursor_stays_with_its_row() {
    let mut world = three();
    let mut app = shown(&mut world);
    type_in(&mut app, "j");
    assert_eq!(app.list.current().unwrap().row.row.comm, "node");
    world.loopers[2].pace = (100, 1_000_000, 990);
    app.on_frame(world.second());
    assert_eq!(names(&app)[0], "node");
    assert_eq!(app.list.current().unwrap().row.row.comm, "node");
    app.on_key(Key::Home);
    app.on_key(Key::PageUp);
    assert_eq!(app.list.place(), (1, 3));
    app.on_key(Key::End);
    app.on_key(Key::Down);
    assert_eq!(app.list.place(), (3, 3));
}

#[test]
fn a_filter_applies_as_it_is_typed_and_escape_takes_it_back() {
    let mut app = shown(&mut three());
    type_in(&mut app, "/RED");
    assert_eq!(names(&app), ["redis-server"]);
    (0..3).for_each(|_| drop(app.on_key(Key::Backspace)));
    type_in(&mut app, "n");
    assert_eq!(names(&app), ["node", "nginx"]);
    app.on_key(Key::Esc);
    assert_eq!((names(&app).len(), app.filter.as_str()), (3, ""));
    type_in(&mut app, "/30");
    app.on_key(Key::Enter);
    assert_eq!(names(&app), ["node"]);
    app.on_key(Key::Esc);
    assert_eq!(names(&app).len(), 3);
    for (filter, rows) in [("epoll", 3), ("service-1.service", 1), ("nothing", 0)] {
        type_in(&mut app, "/");
        type_in(&mut app, filter);
        app.on_key(Key::Enter);
        assert_eq!(names(&app).len(), rows, "{filter}");
        app.on_key(Key::Esc);
    }
}

#[test]
fn enter_opens_a_row_and_escape_returns_to_the_same_place() {
    let mut world = three();
    let mut app = shown(&mut world);
    type_in(&mut app, "jj");
    app.on_key(Key::Enter);
    assert_eq!(app.detail().unwrap().row.row.comm, "nginx");
    world.loopers[0].pace = (100, 1_000_000, 999);
    app.on_frame(world.second());
    app.on_key(Key::Esc);
    assert_eq!(app.screen, Screen::Table);
    assert_eq!(app.list.current().unwrap().row.row.comm, "nginx");
}

#[test]
fn a_row_that_ended_stays_for_a_while_and_is_marked() {
    let mut world = three();
    let mut app = shown(&mut world);
    world.loopers.remove(1);
    // The record of its end was lost: a pass without it says so.
    for _ in 0..3 {
        app.on_frame(world.second());
    }
    let gone = app.list.shown().find(|line| line.row.row.comm == "redis-server");
    assert!(gone.is_some_and(|line| line.row.row.ended));
    for _ in 0..6 {
        app.on_frame(world.second());
    }
    assert_eq!(names(&app).len(), 2);
}

#[test]
fn freezing_holds_the_screen_and_lets_the_latest_window_in_at_its_end() {
    let mut world = three();
    let mut app = shown(&mut world);
    type_in(&mut app, "f");
    let held = app.frame().unwrap().at;
    app.on_frame(world.second());
    app.on_frame(world.second());
    assert_eq!(app.frame().unwrap().at, held);
    type_in(&mut app, "r");
    assert_eq!(names(&app)[0], "nginx");
    type_in(&mut app, "f");
    assert!(app.frame().unwrap().at > held);
}

#[test]
fn plus_and_minus_go_through_the_intervals_and_stop_at_the_ends() {
    let mut app = app();
    let seconds = |action| match action {
        Action::Interval(interval) => interval.as_secs_f64(),
        other => panic!("{other:?}"),
    };
    assert_eq!(seconds(app.on_key(Key::Char('+'))), 2.0);
    assert_eq!(seconds(app.on_key(Key::Char('-'))), 1.0);
    (0..9).for_each(|_| drop(app.on_key(Key::Char('-'))));
    assert_eq!(app.settings.interval, Duration::from_millis(250));
    (0..9).for_each(|_| drop(app.on_key(Key::Char('+'))));
    assert_eq!(app.settings.interval, Duration::from_secs(30));
}

#[test]
fn groups_add_up() {
    let mut world = World::new()
        .with("nginx", 11, (200_000, 100_000, 100))
        .with("nginx", 12, (200_000, 300_000, 100))
        .with("redis-server", 21, (200_000, 100_000, 50));
    let mut app = app();
    app.on_frame(world.second());
    app.on_frame(world.second());
    type_in(&mut app, "g");
    let row = &app.list.shown().next().unwrap().row;
    assert_eq!((row.members, row.row.waits, row.row.events, row.row.pid), (2, 200, 400, 10));
    let busy = row.row.busy_seconds.unwrap();
    assert_eq!(busy.count, 200);
    assert!((busy.sum - 0.04).abs() < 1e-9, "{busy:?}");
    type_in(&mut app, "g");
    assert_eq!(app.list.lines().len(), 2);
    type_in(&mut app, "g");
    assert_eq!(app.list.lines().len(), 3);
}

#[test]
fn a_click_chooses_a_row_opens_it_and_sorts_by_a_head() {
    let mut app = shown(&mut three());
    let text = screen(&mut app, 120, 30);
    let lines: Vec<&str> = text.lines().collect();
    let line = |needle: &str| lines.iter().position(|line| line.contains(needle)).unwrap() as u16;
    let hit = |app: &App, x, y| draw::hit(app, (120, 30), (x, y));
    let node = hit(&app, 20, line("node")).unwrap();
    app.on_hit(node);
    assert_eq!(app.list.current().unwrap().row.row.comm, "node");
    let head = line("BUSY p99");
    let at = |name: &str| lines[head as usize].find(name).unwrap() as u16;
    let column = hit(&app, at("COMM") + 1, head).unwrap();
    app.on_hit(column);
    assert_eq!(names(&app), ["nginx", "node", "redis-server"]);
    app.on_hit(column);
    assert_eq!(names(&app), ["redis-server", "node", "nginx"]);
    assert_eq!(app.list.current().unwrap().row.row.comm, "node", "the row stays chosen");
    let place = hit(&app, 0, line("node")).unwrap();
    assert_eq!(hit(&app, 0, 29), None, "the footer is no row");
    assert_eq!(hit(&app, 0, 0), None);
    app.on_hit(place);
    assert_eq!(app.detail().unwrap().row.row.comm, "node");
    assert_eq!(hit(&app, 0, 5), None);
    app.on_key(Key::Esc);
    app.on_key(Key::WheelUp);
    assert_eq!(app.list.place(), (1, 3));
    // Beyond the last row lies nothing.
    app.on_hit(app::Hit::Row(20));
    assert_eq!(app.list.place(), (1, 3));
}

#[test]
fn no_keys_whatever_break_it() {
    let all = [
        Key::Enter,
        Key::Esc,
        Key::Tab,
        Key::Backspace,
        Key::Up,
        Key::Down,
        Key::Left,
        Key::Right,
        Key::PageUp,
        Key::PageDown,
        Key::Home,
        Key::End,
        Key::Ctrl('l'),
        Key::Ctrl('z'),
        Key::Ctrl('u'),
    ];
    let letters = "q?/srgcf+-jk hG.,[]tx9".chars().map(Key::Char);
    let keys: Vec<Key> = all.into_iter().chain(letters).collect();
    for replay in [false, true] {
        let mut world = three();
        let mut app = App::new(Settings { replay, ..app().settings });
        let mut state = 12345_u32;
        for i in 0..4000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            app.on_key(keys[(state >> 16) as usize % keys.len()]);
            if i % 50 == 0 {
                app.on_frame(world.second());
            }
            if i % 10 == 0 {
                let (width, height) = ((state >> 8) as u16 % 130, (state >> 4) as u16 % 45);
                screen(&mut app, width.max(1), height.max(1));
            }
        }
    }
}
