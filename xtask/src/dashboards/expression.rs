//! What a PromQL expression names: metrics, labels, ranges. Parses; evaluates nothing.

use std::collections::BTreeSet;

use anyhow::{Result, anyhow};
use promql_parser::parser::{self, Expr, LabelModifier, VectorSelector};

use super::panel::GROUP_LABELS;

/// A selector in an expression.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Use {
    pub metric: String,
    /// Labels that it matches, with what they are compared with.
    pub matchers: Vec<(String, String)>,
    /// The function that takes its range.
    pub range_of: Option<String>,
    /// It as PromQL, without a range.
    pub selector: String,
}

/// What an expression names.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub uses: Vec<Use>,
    /// Labels that it groups, matches or joins by.
    pub labels: BTreeSet<String>,
    /// Labels that it makes.
    pub made: BTreeSet<String>,
    /// It leaves out what does not compare as it wants.
    pub compares: bool,
}

/// An expression of a dashboard with values in the place of Grafana's variables.
pub struct Choice<'a> {
    pub job: &'a str,
    pub instance: &'a str,
    pub group: &'a str,
    /// Seconds of `$__rate_interval` and of `$__range`.
    pub rate: u64,
    pub range: u64,
}

/// Everything, and the default label to group by.
pub const ALL: Choice<'static> = Choice { job: ".+", instance: ".+", group: ".*", rate: 60, range: 3600 };

impl Choice<'_> {
    /// Puts the values in.
    pub fn fill(&self, expression: &str) -> String {
        expression
            .replace("$__rate_interval", &format!("{}s", self.rate))
            .replace("$__range", &format!("{}s", self.range))
            .replace("$job", self.job)
            .replace("$instance", self.instance)
            .replace("$group", self.group)
            .replace("$by", GROUP_LABELS[0])
    }
}

/// Reads an expression.
///
/// # Errors
/// It is no PromQL.
pub fn names(expression: &str) -> Result<Names> {
    let tree = parser::parse(expression).map_err(|error| anyhow!("{error}: {expression}"))?;
    let mut names = Names::default();
    walk(&tree, &mut names);
    Ok(names)
}

fn walk(tree: &Expr, names: &mut Names) {
    match tree {
        Expr::Aggregate(aggregate) => {
            note(aggregate.modifier.as_ref(), names);
            walk(&aggregate.expr, names);
        }
        Expr::Binary(binary) => {
            names.compares |= binary.op.is_comparison_operator();
            note(binary.modifier.as_ref().and_then(|modifier| modifier.matching.as_ref()), names);
            walk(&binary.lhs, names);
            walk(&binary.rhs, names);
        }
        Expr::Unary(unary) => walk(&unary.expr, names),
        Expr::Paren(paren) => walk(&paren.expr, names),
        Expr::Subquery(subquery) => walk(&subquery.expr, names),
        Expr::VectorSelector(selector) => names.uses.push(used(selector, None)),
        Expr::MatrixSelector(matrix) => names.uses.push(used(&matrix.vs, Some(String::new()))),
        Expr::Call(call) => {
            if call.func.name == "label_replace"
                && let Some(Expr::StringLiteral(made)) = call.args.args.get(1).map(AsRef::as_ref)
            {
                names.made.insert(made.val.clone());
            }
            let first = names.uses.len();
            call.args.args.iter().for_each(|argument| walk(argument, names));
            for used in names.uses.iter_mut().skip(first) {
                // The innermost function is the one that takes the range.
                if used.range_of.as_ref().is_some_and(String::is_empty) {
                    used.range_of = Some(call.func.name.to_owned());
                }
            }
        }
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
    }
}

fn note(modifier: Option<&LabelModifier>, names: &mut Names) {
    let labels = modifier.map(|modifier| modifier.labels().labels.clone()).unwrap_or_default();
    names.labels.extend(labels);
}

fn used(selector: &VectorSelector, range_of: Option<String>) -> Use {
    let matchers =
        selector.matchers.matchers.iter().map(|matcher| (matcher.name.clone(), matcher.value.clone()));
    // Offsets do not matter to whether there is such a series.
    let plain = VectorSelector { offset: None, at: None, ..selector.clone() };
    Use {
        metric: selector.name.clone().unwrap_or_default(),
        matchers: matchers.collect(),
        range_of,
        selector: plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_says_what_it_names() {
        let names = names(
            "sum by (le, comm) (rate(a_bucket{job=\"x\"}[5m])) / on (comm) max_over_time(b[1h] offset 1m)",
        )
        .unwrap();
        assert_eq!(names.labels, ["comm", "le"].map(str::to_owned).into());
        assert_eq!(names.uses[0].metric, "a_bucket");
        assert_eq!(names.uses[0].matchers, [("job".to_owned(), "x".to_owned())]);
        assert_eq!(names.uses[0].range_of.as_deref(), Some("rate"));
        assert_eq!(names.uses[1].range_of.as_deref(), Some("max_over_time"));
        assert_eq!(names.uses[1].selector, "b");
    }

    #[test]
    fn what_is_no_promql_is_refused() {
        for bad in ["rate(foo)", "sum(a", "a{", "histogram_quantile(0.9)", ""] {
            assert!(names(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn variables_are_filled_in_and_none_is_left() {
        let filled =
            ALL.fill("rate(a{job=~\"$job\",instance=~\"$instance\",$by=~\"$group\"}[$__rate_interval])");
        assert_eq!(filled, "rate(a{job=~\".+\",instance=~\".+\",comm=~\".*\"}[60s])");
    }
}
