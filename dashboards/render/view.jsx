// Draws one of our dashboards from measured data with Grafana's own components: frames of panels, time series with their
// legends, single numbers, units and colours. Heatmaps and tables live in Grafana's server and not in its library: here
// they are a canvas and a plain table. Not Grafana: nothing here asks a data source or fills in a variable.

import React, { useEffect, useRef } from "react";
import { createRoot } from "react-dom/client";
import {
  ThemeContext,
  EventBusSrv,
  FieldType,
  createTheme,
  dateTime,
  getDisplayProcessor,
  getValueFormat,
  formattedValueToString,
} from "@grafana/data";
import { BigValue, PanelChrome, PanelContextProvider, TimeSeries } from "@grafana/ui";
import "uplot/dist/uPlot.min.css";

const { dashboard, shown } = window.MEASURED;
const theme = createTheme({ colors: { mode: "dark" } });
const WIDTH = 1400;
const COLUMN = (WIDTH - 16) / 24;
const ROW = 38;

const timeRange = {
  from: dateTime(shown.start * 1000),
  to: dateTime(shown.end * 1000),
  raw: { from: "now-2m", to: "now" },
};
const noData = () => <div className="none">No data</div>;

const series = (panel, target) => shown.series[`${dashboard.uid}/${panel.id}/${target.refId}`] ?? [];
// The variable that the names of series hold has its default.
const named = (legend, labels) =>
  legend.replaceAll("$by", "comm").replace(/\{\{(\w+)\}\}/g, (_, label) => labels[label] ?? "");

function frames(panel) {
  const { defaults } = panel.fieldConfig;
  const all = panel.targets.flatMap((target) => series(panel, target).map((one) => [target, one]));
  return all.map(([target, one], index) => {
    const field = {
      name: "Value",
      type: FieldType.number,
      values: one.values.map(([, text]) => (Number.isFinite(Number(text)) ? Number(text) : null)),
      config: { ...defaults, displayName: named(target.legendFormat, one.metric) || panel.title },
      labels: one.metric,
      state: { seriesIndex: index },
    };
    field.display = getDisplayProcessor({ field, theme, timeZone: "utc" });
    const times = one.values.map(([at]) => at * 1000);
    const time = { name: "Time", type: FieldType.time, values: times, config: {} };
    time.display = getDisplayProcessor({ field: time, theme, timeZone: "utc" });
    return { length: times.length, fields: [time, field], refId: target.refId };
  });
}

function Lines({ panel, width, height }) {
  const data = frames(panel);
  if (data.length === 0) return noData();
  const { legend } = panel.options;
  return <TimeSeries {...{ width, height, timeRange, legend }} frames={data} timeZone="utc" theme={theme} />;
}

function Stat({ panel, width, height }) {
  const [frame] = frames(panel);
  if (!frame) return noData();
  const [, field] = frame.fields;
  const last = field.values.findLast((value) => value !== null);
  const value = field.display(last);
  value.title = undefined;
  const sparkline = { y: field, x: frame.fields[0], timeRange };
  return (
    <BigValue {...{ width, height, value, sparkline, theme }} colorMode="value" graphMode="area" justifyMode="auto" textMode="value" />
  );
}

function Heatmap({ panel, width, height }) {
  const canvas = useRef(null);
  const rows = panel.targets.flatMap((target) => series(panel, target));
  rows.sort((a, b) => Number(a.metric.le.replace("+Inf", "Infinity")) - Number(b.metric.le.replace("+Inf", "Infinity")));
  const format = getValueFormat(panel.options.yAxis.unit);
  useEffect(() => {
    if (rows.length === 0) return;
    const context = canvas.current.getContext("2d");
    const [left, bottom] = [70, 22];
    const [w, h] = [(width - left) / rows[0].values.length, (height - bottom) / rows.length];
    // The buckets are cumulative.
    const cells = rows.map((row, i) => row.values.map(([, v], x) => Math.max(0, Number(v) - Number(rows[i - 1]?.values[x]?.[1] ?? 0))));
    const most = Math.max(...cells.flat());
    context.font = "11px Inter, sans-serif";
    cells.forEach((row, i) => {
      const y = height - bottom - (i + 1) * h;
      row.forEach((value, x) => {
        if (!(value > 1e-9)) return;
        const heat = (value / most) ** 0.5;
        context.fillStyle = `hsl(${30 - 14 * heat}, 90%, ${20 + 55 * heat}%)`;
        context.fillRect(left + x * w, y, Math.max(1, w - 1), h - 1);
      });
      if (i % 2 === 1 || rows.length < 10) {
        const le = rows[i].metric.le;
        context.fillStyle = theme.colors.text.secondary;
        context.textAlign = "right";
        context.fillText(le === "+Inf" ? "+Inf" : formattedValueToString(format(Number(le))), left - 8, y + 4);
      }
    });
    context.textAlign = "center";
    for (const share of [0.1, 0.3, 0.5, 0.7, 0.9]) {
      const at = new Date((shown.start + share * (shown.end - shown.start)) * 1000).toISOString().slice(11, 19);
      context.fillText(at, left + share * (width - left), height - 6);
    }
  });
  return rows.length === 0 ? noData() : <canvas ref={canvas} width={width} height={height} />;
}

function Table({ panel, height }) {
  const renamed = panel.transformations.find((step) => step.id === "organize").options.renameByName;
  const columns = new Map();
  const rows = new Map();
  panel.targets.forEach((target) => {
    const key = panel.targets.length > 1 ? `Value #${target.refId}` : "Value";
    for (const one of series(panel, target)) {
      const name = JSON.stringify(one.metric);
      const row = rows.get(name) ?? { ...one.metric };
      Object.keys(one.metric).forEach((label) => columns.set(label, renamed[label] ?? label));
      row[key] = Number(one.value[1]);
      rows.set(name, row);
    }
  });
  panel.targets.forEach(({ refId }) => {
    const key = panel.targets.length > 1 ? `Value #${refId}` : "Value";
    columns.set(key, renamed[key]);
  });
  if (rows.size === 0) return noData();
  const unit = (name) => {
    const override = panel.fieldConfig.overrides.find(({ matcher }) => matcher.options === name);
    return override?.properties.find(({ id }) => id === "unit")?.value ?? "short";
  };
  const sort = panel.transformations.find((step) => step.id === "sortBy").options.sort[0].field;
  const by = [...columns].find(([, name]) => name === sort)?.[0];
  const sorted = [...rows.values()].sort((a, b) => (b[by] || 0) - (a[by] || 0));
  const cell = (value, name) => {
    if (value === undefined || Number.isNaN(value)) return "";
    return typeof value === "number" ? formattedValueToString(getValueFormat(unit(name))(value)) : value;
  };
  return (
    <div style={{ height, overflow: "hidden" }}>
      <table>
        <thead><tr>{[...columns].map(([key, name]) => <th key={key}>{name}</th>)}</tr></thead>
        <tbody>
          {sorted.map((row, i) => (
            <tr key={i}>{[...columns].map(([key, name]) => <td key={key}>{cell(row[key], name)}</td>)}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

const KINDS = { stat: Stat, timeseries: Lines, heatmap: Heatmap, table: Table };

function Panel({ panel }) {
  const { x, y, w, h } = panel.gridPos;
  const place = { position: "absolute", left: 8 + x * COLUMN, top: 44 + y * ROW };
  if (panel.type === "row") return <h2 style={place}>{panel.title}</h2>;
  const Kind = KINDS[panel.type];
  return (
    <div style={place}>
      <PanelChrome title={panel.title} width={w * COLUMN - 8} height={h * ROW - 8}>
        {(width, height) => <Kind {...{ panel, width, height }} />}
      </PanelChrome>
    </div>
  );
}

const bus = new EventBusSrv();
const context = { eventBus: bus, eventsScope: "global", canAddAnnotations: () => false };
createRoot(document.getElementById("root")).render(
  <ThemeContext.Provider value={theme}>
    <PanelContextProvider value={context}>
      <h1>{dashboard.title}</h1>
      {dashboard.panels.map((panel) => <Panel key={panel.id} panel={panel} />)}
    </PanelContextProvider>
  </ThemeContext.Provider>
);
