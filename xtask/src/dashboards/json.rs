//! Grafana's JSON of a dashboard (schema version 42, the portable form that every version since 8 migrates from).
//!
//! The same input gives the same bytes. Must not name a metric: what is shown is in the tables.

use serde_json::{Map, Value, json};

use super::panel::{Dashboard, GROUP_LABELS, Kind, Panel, expand};

/// The schema of Grafana's own types that dashboards/schema was made from.
pub const SCHEMA_VERSION: u32 = 42;
/// What links the dashboards to one another.
const TAG: &str = "loopscope";
/// Columns of Grafana's grid.
pub const COLUMNS: u32 = 24;

/// The file's content.
pub fn file(dashboard: &Dashboard) -> String {
    // Values made here are always written.
    serde_json::to_string_pretty(&document(dashboard)).unwrap_or_default() + "\n"
}

/// The whole dashboard.
pub fn document(dashboard: &Dashboard) -> Value {
    json!({
        "annotations": { "list": [annotation()] },
        "description": dashboard.about,
        "editable": false,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "links": [links()],
        "panels": panels(dashboard),
        "refresh": "30s",
        "schemaVersion": SCHEMA_VERSION,
        "tags": [TAG],
        "templating": { "list": variables(dashboard) },
        "time": { "from": "now-1h", "to": "now" },
        "timepicker": {},
        "timezone": "browser",
        "title": dashboard.title,
        "uid": dashboard.uid,
        "weekStart": "",
    })
}

/// Grafana's own annotations; without this entry it adds one on load, and the dashboard looks changed.
fn annotation() -> Value {
    json!({
        "builtIn": 1,
        "datasource": { "type": "grafana", "uid": "-- Grafana --" },
        "enable": true,
        "hide": true,
        "iconColor": "rgba(0, 211, 255, 1)",
        "name": "Annotations & Alerts",
        "type": "dashboard",
    })
}

fn links() -> Value {
    json!({
        "asDropdown": true,
        "icon": "external link",
        "includeVars": true,
        "keepTime": true,
        "tags": [TAG],
        "targetBlank": false,
        "title": "loopscope",
        "tooltip": "The other dashboards, with the same choice and time",
        "type": "dashboards",
        "url": "",
    })
}

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn variables(dashboard: &Dashboard) -> Vec<Value> {
    let mut variables = vec![
        json!({
            "current": {}, "hide": 0, "includeAll": false, "label": "Data source", "multi": false, "name": "datasource",
            "options": [], "query": "prometheus", "refresh": 1, "regex": "", "type": "datasource",
        }),
        labels("job", "Job", "label_values(loopscope_build_info, job)", ".+"),
        labels("instance", "Instance", "label_values(loopscope_build_info{job=~\"$job\"}, instance)", ".+"),
    ];
    if dashboard.grouped {
        let options = GROUP_LABELS
            .map(|label| json!({ "selected": label == GROUP_LABELS[0], "text": label, "value": label }));
        variables.push(json!({
            "current": { "selected": true, "text": GROUP_LABELS[0], "value": GROUP_LABELS[0] },
            "description": "The label by which the agent groups loops (--group-by)",
            "hide": 0, "includeAll": false, "label": "Group by", "multi": false, "name": "by", "options": options,
            "query": GROUP_LABELS.join(","), "type": "custom",
        }));
        let group = "label_values(loopscope_loops{job=~\"$job\",instance=~\"$instance\"}, $by)";
        // Where the agent groups by another label than the chosen one, no series has it: all are shown as one.
        variables.push(labels("group", "Group", group, ".*"));
    }
    variables
}

/// A variable with the values of a label, of which several can be chosen.
fn labels(name: &str, label: &str, query: &str, all: &str) -> Value {
    json!({
        "allValue": all,
        "current": { "selected": true, "text": ["All"], "value": ["$__all"] },
        "datasource": source(),
        "definition": query,
        "hide": 0, "includeAll": true, "label": label, "multi": true, "name": name, "options": [],
        "query": { "qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery" },
        "refresh": 2, "regex": "", "sort": 1, "type": "query",
    })
}

/// All panels, each with its place.
fn panels(dashboard: &Dashboard) -> Vec<Value> {
    let (mut all, mut y) = (Vec::new(), 0);
    for row in dashboard.rows {
        if !row.title.is_empty() {
            all.push(json!({
                "collapsed": false, "gridPos": { "h": 1, "w": COLUMNS, "x": 0, "y": y }, "id": all.len() + 1,
                "panels": [], "title": row.title, "type": "row",
            }));
            y += 1;
        }
        // A line of panels is as high as its highest.
        let (mut x, mut height) = (0, 0);
        for panel in row.panels {
            if x + panel.width > COLUMNS {
                (x, y, height) = (0, y + height, 0);
            }
            let place = json!({ "h": panel.height, "w": panel.width, "x": x, "y": y });
            all.push(one(panel, all.len() + 1, place));
            x += panel.width;
            height = height.max(panel.height);
        }
        y += height;
    }
    all
}

fn one(panel: &Panel, id: usize, place: Value) -> Value {
    let mut value = json!({
        "datasource": source(),
        "description": panel.about,
        "fieldConfig": { "defaults": defaults(panel), "overrides": overrides(panel) },
        "gridPos": place,
        "id": id,
        "options": options(panel),
        "targets": targets(panel),
        "title": panel.title,
        "type": kind(panel.kind),
    });
    if let (Kind::Table, Some(fields)) = (panel.kind, value.as_object_mut()) {
        fields.insert("transformations".to_owned(), transformations(panel));
    }
    value
}

/// Grafana's id of the panel type.
fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Stat => "stat",
        Kind::Lines | Kind::Stacked => "timeseries",
        Kind::Heatmap => "heatmap",
        Kind::Table => "table",
    }
}

fn letter(index: usize) -> String {
    char::from(b'A'.saturating_add(u8::try_from(index).unwrap_or(25))).to_string()
}

fn targets(panel: &Panel) -> Vec<Value> {
    let targets = panel.targets.iter().enumerate();
    targets
        .map(|(index, (expression, legend))| {
            let (format, legend, instant) = match panel.kind {
                Kind::Stat => ("time_series", *legend, false),
                Kind::Lines | Kind::Stacked => ("time_series", *legend, false),
                Kind::Heatmap => ("heatmap", *legend, false),
                Kind::Table => ("table", "", true),
            };
            json!({
                "datasource": source(), "editorMode": "code", "expr": expand(expression), "format": format,
                "instant": instant, "legendFormat": legend, "range": !instant, "refId": letter(index),
            })
        })
        .collect()
}

fn thresholds(panel: &Panel) -> Value {
    let mut steps = vec![json!({ "color": "green", "value": null })];
    steps.extend(panel.bad.map(|from| json!({ "color": "red", "value": from })));
    json!({ "mode": "absolute", "steps": steps })
}

fn defaults(panel: &Panel) -> Value {
    let mut defaults = Map::new();
    if panel.kind == Kind::Heatmap {
        return json!({ "custom": { "hideFrom": hide_nothing(), "scaleDistribution": { "type": "linear" } } });
    }
    let by_threshold = panel.kind == Kind::Stat && panel.bad.is_some();
    let mode = if by_threshold { "thresholds" } else { "palette-classic" };
    let color = if panel.kind == Kind::Stat && !by_threshold {
        json!({ "fixedColor": "blue", "mode": "fixed" })
    } else {
        json!({ "mode": mode })
    };
    defaults.insert("color".to_owned(), color);
    defaults.insert("custom".to_owned(), custom(panel));
    defaults.insert("mappings".to_owned(), json!([]));
    defaults.insert("min".to_owned(), json!(0));
    if let Some(most) = panel.most {
        defaults.insert("max".to_owned(), json!(most));
    }
    defaults.insert("thresholds".to_owned(), thresholds(panel));
    defaults.insert("unit".to_owned(), json!(panel.unit));
    Value::Object(defaults)
}

fn hide_nothing() -> Value {
    json!({ "legend": false, "tooltip": false, "viz": false })
}

fn custom(panel: &Panel) -> Value {
    match panel.kind {
        Kind::Stat | Kind::Heatmap => json!({}),
        Kind::Table => json!({ "align": "auto", "cellOptions": { "type": "auto" }, "inspect": false }),
        Kind::Lines | Kind::Stacked => {
            let stacked = panel.kind == Kind::Stacked;
            let line = if panel.bad.is_some() { "dashed" } else { "off" };
            json!({
                "drawStyle": "line", "fillOpacity": if stacked { 40 } else { 10 }, "gradientMode": "none",
                "hideFrom": hide_nothing(), "lineInterpolation": "linear", "lineWidth": 1, "showPoints": "never",
                "spanNulls": false, "stacking": { "group": "A", "mode": if stacked { "normal" } else { "none" } },
                "thresholdsStyle": { "mode": line },
            })
        }
    }
}

fn options(panel: &Panel) -> Value {
    match panel.kind {
        Kind::Stat => json!({
            "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "orientation": "auto",
            "percentChangeColorMode": "standard",
            "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
            "showPercentChange": false, "textMode": "auto", "wideLayout": true,
        }),
        Kind::Lines | Kind::Stacked => json!({
            "legend": {
                "calcs": ["lastNotNull", "max"], "displayMode": "table",
                // Beside a wide panel there is room for ten series; below a narrow one for three.
                "placement": if panel.width >= 12 { "right" } else { "bottom" }, "showLegend": true,
                "sortBy": "Max", "sortDesc": true,
            },
            "tooltip": { "mode": "multi", "sort": "desc" },
        }),
        Kind::Heatmap => json!({
            "calculate": false, "cellGap": 1, "cellValues": { "unit": "cps" },
            "color": {
                "exponent": 0.5, "fill": "dark-orange", "mode": "scheme", "reverse": false, "scale": "exponential",
                "scheme": "Oranges", "steps": 64,
            },
            "exemplars": { "color": "rgba(255,0,255,0.7)" },
            "filterValues": { "le": 1e-9 },
            "legend": { "show": true },
            "rowsFrame": { "layout": "auto" },
            "showValue": "never",
            "tooltip": { "mode": "single", "showColorScale": true, "yHistogram": true },
            "yAxis": { "axisPlacement": "left", "reverse": false, "unit": panel.unit },
        }),
        Kind::Table => json!({ "cellHeight": "sm", "frameIndex": 0, "showHeader": true }),
    }
}

/// Units, bars and links of the columns of a table. A column is known by its name once the table is organised.
fn overrides(panel: &Panel) -> Vec<Value> {
    if panel.kind != Kind::Table {
        return Vec::new();
    }
    let column = |name: &str, properties: Value| json!({ "matcher": { "id": "byName", "options": name }, "properties": properties });
    let columns = panel.targets.iter().filter_map(|(_, name)| {
        let properties = match *name {
            "Utilisation" | "Busiest share" => json!([
                { "id": "unit", "value": "percentunit" }, { "id": "max", "value": 1 },
                { "id": "custom.cellOptions", "value": { "type": "gauge", "mode": "basic", "valueDisplayMode": "text" } },
            ]),
            "Busy p99" | "Busy now" => json!([{ "id": "unit", "value": "s" }]),
            "Waits/s" => json!([{ "id": "unit", "value": "cps" }]),
            _ => return None,
        };
        Some(column(name, properties))
    });
    let group = json!([{ "id": "links", "value": [{
        "title": "Process ${__value.text}",
        "url": "/d/loopscope-process?${datasource:queryparam}&${job:queryparam}&${instance:queryparam}&${by:queryparam}&var-group=${__value.text}&${__url_time_range}",
    }] }]);
    let linked = panel.targets.iter().any(|(expression, _)| expression.contains("\"group\""));
    let links = linked.then(|| column("Group", group));
    columns.chain(links).collect()
}

/// The names of the columns that are labels.
const COLUMN_NAMES: [(&str, &str); 8] = [
    ("group", "Group"),
    ("mechanism", "Waits by"),
    ("listener", "Listener"),
    ("instance", "Instance"),
    ("probe", "Probe"),
    ("backend", "Way"),
    ("version", "Version"),
    ("arch", "Machine"),
];

/// One row for each set of labels, with the columns' names.
fn transformations(panel: &Panel) -> Value {
    let mut names = Map::new();
    for (label, name) in COLUMN_NAMES {
        names.insert(label.to_owned(), json!(name));
    }
    for (index, (_, name)) in panel.targets.iter().enumerate() {
        // Grafana calls the value of the only query "Value", and those of several "Value #A" and so on.
        let value =
            if panel.targets.len() > 1 { format!("Value #{}", letter(index)) } else { "Value".to_owned() };
        names.insert(value, json!(name));
    }
    let first = panel.targets.get(panel.targets.len().min(4).saturating_sub(1)).map_or("", |(_, name)| *name);
    json!([
        { "id": "merge", "options": {} },
        { "id": "organize", "options": { "excludeByName": { "Time": true }, "indexByName": {}, "renameByName": names } },
        { "id": "sortBy", "options": { "fields": {}, "sort": [{ "desc": true, "field": first }] } },
    ])
}
