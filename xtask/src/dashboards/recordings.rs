//! The recording rules: figures that alerts compare and that long ranges need. Only a table.

use super::rules::Recording;

/// In an order in which each names only earlier ones.
pub const RECORDINGS: &[Recording] = &[
    Recording {
        name: "loopscope:utilization:ratio_rate5m",
        expression: "sum without (state) (rate(loopscope_loop_time_seconds_total{state=\"busy\"}[5m]))
/ sum without (state) (rate(loopscope_loop_time_seconds_total[5m]))",
    },
    Recording {
        name: "loopscope:busy_seconds:mean_rate5m",
        expression: "rate(loopscope_busy_seconds_sum[5m]) / rate(loopscope_busy_seconds_count[5m])",
    },
    Recording {
        name: "loopscope:busy_seconds:p99_rate5m",
        expression: "histogram_quantile(0.99, rate(loopscope_busy_seconds_bucket[5m]))",
    },
    Recording {
        name: "loopscope:wait_seconds:p99_rate5m",
        expression: "histogram_quantile(0.99, rate(loopscope_wait_seconds_bucket[5m]))",
    },
    Recording {
        name: "loopscope:timeout_overrun_seconds:p99_rate5m",
        expression: "histogram_quantile(0.99, rate(loopscope_timeout_overrun_seconds_bucket[5m]))",
    },
    Recording {
        name: "loopscope:waits:rate5m",
        expression: "sum without (result) (rate(loopscope_waits_total[5m]))",
    },
    Recording {
        name: "loopscope:waits_per_loop:rate5m",
        expression: "loopscope:waits:rate5m / (loopscope_loops > 0)",
    },
    Recording {
        name: "loopscope:events_per_wait:ratio_rate5m",
        expression: "rate(loopscope_events_total[5m]) / loopscope:waits:rate5m",
    },
    Recording {
        name: "loopscope:empty_waits:ratio_rate5m",
        expression: "sum without (result) (rate(loopscope_waits_total{result=\"empty\"}[5m])) / loopscope:waits:rate5m",
    },
    Recording {
        name: "loopscope:saturated_waits:ratio_rate5m",
        expression: "rate(loopscope_saturated_waits_total[5m]) / loopscope:waits:rate5m",
    },
    Recording {
        name: "loopscope:ctl_per_wait:ratio_rate5m",
        expression: "sum without (op) (rate(loopscope_ctl_total[5m])) / loopscope:waits:rate5m",
    },
    Recording {
        name: "loopscope:nfds:mean_rate5m",
        expression: "rate(loopscope_nfds_sum[5m]) / rate(loopscope_nfds_count[5m])",
    },
    Recording {
        name: "loopscope:listener_imbalance:ratio",
        expression: "loopscope_listener_max_share_ratio * loopscope_listener_loops",
    },
];
