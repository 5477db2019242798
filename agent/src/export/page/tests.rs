//! Claims about the page: what a process chooses stays text, rows are bounded, and it says the model's figures.

use std::sync::Arc;

use loopscope_probe::Head;
use serde_json::Value;

use super::*;
use crate::{
    decode::Record,
    export::tests::world::{MS, S, head, looped, wait, waiting},
    identity::Process,
    model::Model,
};

/// Loops of one thread each, of these names: two waits, a second busy between them, and now in a third.
fn window<'a>(names: impl Iterator<Item = &'a str>) -> Window {
    let mut model = Model::default();
    let mut pass = |now_ns, mut records: Vec<Record>| {
        records.push(Record::Counters(Head { now_ns, ..Head::default() }, Counters::default()));
        model.apply(records, &mut |_| Arc::new(Process::default()));
        let window = model.window();
        model.begin();
        window
    };
    pass(S, Vec::new());
    let loops = names.enumerate().map(|(i, name)| {
        let i = i as u64;
        let mut looped = looped(i);
        wait(&mut looped, 2 * S, 0, 100 * MS, 1);
        wait(&mut looped, 3 * S + 100 * MS, S, 100 * MS, 3);
        let tid = 10 * (1 + u32::try_from(i).unwrap());
        Record::Loops(Head { wait: waiting(i, 4 * S), ..head(name, tid, 5 * S) }, vec![looped])
    });
    pass(5 * S, loops.collect())
}

fn page(window: &Window) -> Page {
    let mut page = Page::new();
    assert!(page.want(), "nothing was read yet");
    page.see(window, &Counters::default(), 7);
    page
}

fn html(page: &Page) -> String {
    String::from_utf8(page.html().to_vec()).unwrap()
}

fn json(page: &Page) -> Value {
    serde_json::from_slice(&page.json()).unwrap()
}

#[test]
fn a_loop_is_shown_with_the_models_figures_in_both_forms() {
    let page = page(&window(["redis-server"].into_iter()));
    let document = json(&page);
    let row = &document["rows"][0];
    assert_eq!((&row["comm"], &row["pid"]), (&"redis-server".into(), &10.into()));
    let texts: Vec<&str> =
        row["cells"].as_array().unwrap().iter().map(|cell| cell["text"].as_str().unwrap()).collect();
    assert_eq!(texts[..3], ["redis-server", "10", "epoll"]);
    // Two waits of 100 ms, one that has been going on for 1 s, and 1 s busy.
    assert_eq!(document["columns"][view::SORTED], "Utilisation");
    let share = row["cells"][view::SORTED]["bar"].as_f64().unwrap();
    assert!((share - 1.0 / 2.2).abs() < 1e-9, "{share}");
    let strip: Vec<u64> =
        row["cells"][6]["strip"].as_array().unwrap().iter().map(|l| l.as_u64().unwrap()).collect();
    // 100 ms lies between 2^-4 s and 2^-2 s, which is the tenth cell.
    assert_eq!(strip, [0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0]);
    let shown = html(&page);
    for text in texts.into_iter().chain(["class=\"h9\"", "<dt>Not recorded</dt><dd>7</dd>"]) {
        assert!(shown.contains(text), "{text}: {shown}");
    }
}

#[test]
fn a_name_cannot_become_markup() {
    let hostile = [
        "<script>x</scr",
        "\"><img src=x>",
        "'onload=alert(",
        "{{rows}}&lt;",
        "</td></table>",
        "\u{1b}[31m\n\u{202e}a",
    ];
    let page = page(&window(hostile.into_iter()));
    let shown = html(&page);
    let body = shown.split("<tbody").nth(1).unwrap().split("</tbody>").next().unwrap();
    for tag in body.split('<').skip(1).map(|tag| tag.split(['>', ' ']).next().unwrap()) {
        assert!(
            ["tr", "td", "/td", "/tr", "span", "/span", "i", "/i", "progress", "/progress"].contains(&tag),
            "{tag}"
        );
    }
    assert!(
        body.contains("&lt;script&gt;x&lt;/scr") && body.contains("&quot;&gt;&lt;img src=x&gt;"),
        "{body}"
    );
    assert!(body.contains("{{rows}}&amp;lt;"), "{body}");
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'));
    assert_eq!(body.matches("<tr>").count(), hostile.len());
    // The other form is text until the script puts it in as such.
    let names: Vec<Value> =
        json(&page)["rows"].as_array().unwrap().iter().map(|row| row["comm"].clone()).collect();
    assert!(names.contains(&"<script>x</scr".into()), "{names:?}");
}

#[test]
fn the_json_is_as_its_schema_says() {
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/schema/loops.schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(schema).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut document = json(&page(&window(["a", "b"].into_iter())));
    let faults: Vec<String> = validator.iter_errors(&document).map(|fault| fault.to_string()).collect();
    assert_eq!(faults, Vec::<String>::new());
    document["rows"][0]["cells"][0]["text"] = 1.into();
    assert!(!validator.is_valid(&document));
}

#[test]
fn rows_are_bounded_and_the_others_counted() {
    let names: Vec<String> = (0..250).map(|i| format!("loop{i}")).collect();
    let page = page(&window(names.iter().map(String::as_str)));
    let document = json(&page);
    assert_eq!(document["rows"].as_array().unwrap().len(), 200);
    assert_eq!(document["summary"][0]["text"], "250");
    assert!(document["more"].as_str().unwrap().starts_with("50 less utilised loops are not shown."));
    assert_eq!(html(&page).matches("<tr>").count(), 201, "with the heads");
    assert!(page.json().len() < 400_000, "{}", page.json().len());
}

#[test]
fn nothing_is_made_while_nobody_asks() {
    let mut page = Page::new();
    page.see(&window(["a"].into_iter()), &Counters::default(), 0);
    assert_eq!(json(&page), Value::Null);
    assert!(html(&page).contains("nothing was read yet") && html(&page).contains("/metrics"));
}

#[test]
fn viewers_share_a_reading_and_a_short_window_does_not_replace_it() {
    let mut page = page(&window(["a"].into_iter()));
    assert!(!page.want(), "a reading of just now");
    let mut short = window(["b"].into_iter());
    short.duration_ns = 1_000_000;
    page.see(&short, &Counters::default(), 0);
    assert_eq!(json(&page)["rows"][0]["comm"], "a");
    page.see(&window(["c"].into_iter()), &Counters::default(), 0);
    assert_eq!(json(&page)["rows"][0]["comm"], "c");
}

#[test]
fn the_page_asks_nobody_else_and_has_no_script_or_style_within() {
    let shown = html(&page(&window(["a"].into_iter())));
    for forbidden in ["http://", "https://", "src=\"//", "style=", "<style", "onclick", "javascript:"] {
        assert!(!shown.contains(forbidden) && !SCRIPT.contains(forbidden), "{forbidden}");
    }
    assert!(!CSS.contains("url(") && !CSS.contains("@import"));
    for dangerous in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
        assert!(!SCRIPT.contains(dangerous), "{dangerous}");
    }
    assert_eq!(shown.matches("<script").count(), 1);
    assert!(!shown.contains("{{"), "each part is filled in");
}
