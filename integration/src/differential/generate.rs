//! Random queries over the series that [`super::data`] writes: valid ones for the most part, of everything in the language.

use super::data::{LENGTH, START};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::fmt;

/// A query and when it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// PromQL.
    pub text: String,
    /// The time of an instant query, or the first step, ms.
    pub start: i64,
    /// The last step, ms.
    pub end: i64,
    /// Between two steps, ms; 0 for an instant query.
    pub step: i64,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, start, end, step } = self;
        match step {
            0 => write!(f, "{text}\n  at {start} ms"),
            _ => write!(f, "{text}\n  from {start} to {end} by {step} ms"),
        }
    }
}

/// Questions without end; the same ones for the same seed.
pub struct Questions {
    rng: StdRng,
}

impl Questions {
    /// Begins with a seed.
    pub fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed) }
    }
}

impl Iterator for Questions {
    type Item = Question;

    fn next(&mut self) -> Option<Question> {
        let depth = self.rng.random_range(0..4);
        let text = if self.chance(1, 20) { self.scalar(depth) } else { self.vector(depth) };
        let instant = self.chance(1, 2);
        // Over a range sorting has no meaning, and what it leaves out has changed after 3.5.
        let sorted = instant && self.chance(1, 10);
        let text = if sorted { format!("{}({text})", self.word(&["sort", "sort_desc"])) } else { text };
        let start = START + self.rng.random_range(-300_000..LENGTH + 300_000);
        if instant {
            return Some(Question { text, start, end: start, step: 0 });
        }
        let step = self.pick(&[1_000, 7_000, 15_000, 30_000, 60_000, 300_000]);
        let end = start + step * self.rng.random_range(0..40);
        Some(Question { text, start, end, step })
    }
}

const FLOATS: &[&str] = &["requests_total", "temperature", "level", "gappy", "target_info", "latency_bucket"];
const HISTOGRAMS: &[&str] = &["native", "native_gauge", "custom", "mixed"];
const LABELS: &[&str] = &["job", "instance", "code", "le", "version", "none"];
const RANGES: &[&str] = &["20s", "45s", "1m", "2m30s", "5m", "17m", "1h"];
const OFFSETS: &[&str] = &["30s", "3m", "-45s", "1h"];
const MATCHERS: &[&str] = &[
    r#"job="api""#,
    r#"job!="db""#,
    r#"instance=~"a|b""#,
    r#"instance!~"c.*""#,
    r#"code=~"[45].*""#,
    r#"code="200""#,
    r#"none="""#,
    r#"le="1""#,
    r#"job=~".+""#,
];
const NUMBERS: &[&str] = &[
    "0", "1", "2", "0.5", "-1", "3", "100", "1e3", "-0.25", "Inf", "-Inf", "NaN", "0.9", "7", "1e-9", "0x1F", "1_000",
];

impl Questions {
    fn chance(&mut self, of: u32, all: u32) -> bool {
        self.rng.random_ratio(of, all)
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list.choose(&mut self.rng).copied().unwrap_or(list[0])
    }

    fn word(&mut self, list: &[&'static str]) -> &'static str {
        self.pick(list)
    }

    fn number(&mut self) -> String {
        if self.chance(1, 3) { format!("{}", self.rng.random_range(-20..50)) } else { self.word(NUMBERS).to_owned() }
    }

    fn labels(&mut self) -> String {
        let count = self.rng.random_range(0..3);
        (0..count).map(|_| self.word(LABELS)).collect::<Vec<_>>().join(", ")
    }

    fn selector(&mut self) -> String {
        let name = if self.chance(1, 4) { self.word(HISTOGRAMS) } else { self.word(FLOATS) };
        // Of several on one label the first one of another kind counts for `absent`, and Prometheus changes their order at times.
        let mut matchers: Vec<_> = (0..self.rng.random_range(0..3)).map(|_| self.word(MATCHERS)).collect();
        matchers.dedup_by_key(|matcher| matcher.split(['=', '!']).next());
        match self.rng.random_range(0..20) {
            0 => format!("{{__name__=~\"level|gappy\",{}}}", matchers.join(",")),
            1 => format!("{{\"{name}\"}}"),
            _ if matchers.is_empty() => name.to_owned(),
            _ => format!("{name}{{{}}}", matchers.join(",")),
        }
    }

    fn modifiers(&mut self) -> String {
        let offset = if self.chance(1, 6) { format!(" offset {}", self.word(OFFSETS)) } else { String::new() };
        let at = match self.rng.random_range(0..16) {
            0 => " @ start()".to_owned(),
            1 => " @ end()".to_owned(),
            2 => format!(" @ {}", (START + self.rng.random_range(0..LENGTH)) / 1_000),
            _ => String::new(),
        };
        format!("{at}{offset}")
    }

    fn matrix(&mut self, depth: u32) -> String {
        if depth == 0 || self.chance(4, 5) {
            let (selector, range) = (self.selector(), self.word(RANGES));
            return format!("{selector}[{range}]{}", self.modifiers());
        }
        let (inner, range) = (self.vector(depth - 1), self.word(RANGES));
        let step = if self.chance(1, 4) { "" } else { self.word(&["13s", "30s", "1m"]) };
        format!("({inner})[{range}:{step}]{}", self.modifiers())
    }

    fn scalar(&mut self, depth: u32) -> String {
        match self.rng.random_range(0..if depth == 0 { 3 } else { 7 }) {
            0 => "(time() % 100)".to_owned(),
            1 | 2 => self.number(),
            3 => format!("scalar({})", self.vector(depth - 1)),
            4 => "pi()".to_owned(),
            5 => {
                let (a, b) = (self.scalar(depth - 1), self.scalar(depth - 1));
                format!("({a} {} {b})", self.word(&["+", "-", "*", "/", "%", "^", "== bool", "< bool"]))
            }
            _ => format!("-({})", self.scalar(depth - 1)),
        }
    }

    fn vector(&mut self, depth: u32) -> String {
        if depth == 0 {
            return format!("{}{}", self.selector(), self.modifiers());
        }
        match self.rng.random_range(0..24) {
            0..=4 => self.over_range(depth),
            5..=8 => self.aggregation(depth),
            9..=13 => self.binary(depth),
            14..=16 => self.function(depth),
            17 => self.histogram(),
            18 => self.relabelled(depth),
            19 => format!("-{}", self.vector(depth - 1)),
            20 => format!("vector({})", self.scalar(depth - 1)),
            21 => format!("({})", self.vector(depth - 1)),
            22 => {
                format!("absent({})", self.vector(depth - 1))
            }
            _ => format!("{}{}", self.selector(), self.modifiers()),
        }
    }

    fn over_range(&mut self, depth: u32) -> String {
        const FUNCTIONS: &[&str] = &[
            "rate",
            "increase",
            "delta",
            "irate",
            "idelta",
            "deriv",
            "resets",
            "changes",
            "avg_over_time",
            "sum_over_time",
            "min_over_time",
            "max_over_time",
            "count_over_time",
            "last_over_time",
            "stddev_over_time",
            "stdvar_over_time",
            "present_over_time",
            "absent_over_time",
        ];
        match self.rng.random_range(0..12) {
            0 => {
                let matrix = self.matrix(depth - 1);
                let quantile = self.word(&["0.5", "0.9", "0", "1", "-1", "2", "NaN"]);
                format!("quantile_over_time({quantile}, {matrix})")
            }
            1 => {
                let (matrix, seconds) = (self.matrix(depth - 1), self.number());
                format!("predict_linear({matrix}, {seconds})")
            }
            _ => {
                let (name, matrix) = (self.word(FUNCTIONS), self.matrix(depth - 1));
                format!("{name}({matrix})")
            }
        }
    }

    fn aggregation(&mut self, depth: u32) -> String {
        let inner = self.vector(depth - 1);
        let grouping = match self.rng.random_range(0..4) {
            0 => String::new(),
            1 => format!(" without ({})", self.labels()),
            _ => format!(" by ({})", self.labels()),
        };
        match self.rng.random_range(0..10) {
            0 => {
                let quantile = self.word(&["0.5", "0.99", "0", "1", "-0.1", "1.5", "NaN"]);
                format!("quantile{grouping} ({quantile}, {inner})")
            }
            1 => {
                // Which of equals are taken follows from the order of the series, which is random behind other functions.
                let (name, k) = (self.word(&["topk", "bottomk"]), self.rng.random_range(-1..5));
                let (selector, modifiers) = (self.selector(), self.modifiers());
                format!("{name}{grouping} ({k}, {selector}{modifiers})")
            }
            // Rounded, because a last digit would be another label.
            2 => format!("count_values{grouping} (\"value\", round({}, 0.01))", self.selector()),
            _ => {
                let name = self.word(&["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"]);
                format!("{name}{grouping} ({inner})")
            }
        }
    }

    fn binary(&mut self, depth: u32) -> String {
        const ARITHMETIC: &[&str] = &["+", "-", "*", "/", "%", "^", "atan2"];
        const COMPARISON: &[&str] = &["==", "!=", "<", ">", "<=", ">="];
        let compares = self.chance(2, 5);
        let op = if compares { self.word(COMPARISON) } else { self.word(ARITHMETIC) };
        let bool = if compares && self.chance(1, 2) { " bool" } else { "" };
        let a = self.vector(depth - 1);
        match self.rng.random_range(0..10) {
            0..=2 => format!("{a} {op}{bool} {}", self.scalar(depth - 1)),
            3 => format!("{} {op}{bool} {a}", self.scalar(depth - 1)),
            4 => {
                let (set, on) = (self.word(&["and", "or", "unless"]), self.matching());
                format!("{a} {set}{on} {}", self.vector(depth - 1))
            }
            5 => {
                let (side, more) = (self.word(&["group_left", "group_right"]), self.word(&["", "version", "code"]));
                let b = self.vector(depth - 1);
                format!("{a} {op}{bool} on (job, instance) {side} ({more}) {b}")
            }
            6 => {
                // The same series on both sides match for sure.
                format!("{a} {op}{bool} {a}")
            }
            _ => {
                let (on, b) = (self.matching(), self.vector(depth - 1));
                format!("{a} {op}{bool}{on} {b}")
            }
        }
    }

    fn matching(&mut self) -> String {
        match self.rng.random_range(0..3) {
            0 => String::new(),
            1 => format!(" on ({})", self.labels()),
            _ => format!(" ignoring ({})", self.labels()),
        }
    }

    fn function(&mut self, depth: u32) -> String {
        const ONE: &[&str] = &[
            "abs", "ceil", "floor", "exp", "ln", "log2", "log10", "sqrt", "sgn", "round", "deg", "rad", "sin", "cos",
            "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh",
        ];
        // Of finite times: what the date of NaN is follows from the processor in Go.
        const DATES: &[&str] =
            &["day_of_month", "day_of_week", "day_of_year", "days_in_month", "hour", "minute", "month", "year"];
        let inner = self.vector(depth - 1);
        match self.rng.random_range(0..7) {
            6 => {
                // With `@` Prometheus forgets the offset.
                let offset = if self.chance(1, 3) { format!(" offset {}", self.word(OFFSETS)) } else { String::new() };
                format!("{}(timestamp({}{offset}))", self.word(DATES), self.selector())
            }
            0 => format!("clamp({inner}, {}, {})", self.number(), self.number()),
            1 => {
                let name = self.word(&["clamp_min", "clamp_max", "round"]);
                format!("{name}({inner}, {})", self.number())
            }
            _ => format!("{}({inner})", self.word(ONE)),
        }
    }

    fn histogram(&mut self) -> String {
        let inner = match self.rng.random_range(0..4) {
            0 => format!("rate(latency_bucket[{}])", self.word(RANGES)),
            1 => format!("rate(native[{}])", self.word(RANGES)),
            2 => format!("sum by (job) ({})", self.word(HISTOGRAMS)),
            // Not negative: what quantiles of negative observations are is nobody's concern.
            _ => self.selector(),
        };
        match self.rng.random_range(0..4) {
            0 => {
                let name = self.word(&[
                    "histogram_count",
                    "histogram_sum",
                    "histogram_avg",
                    "histogram_stddev",
                    "histogram_stdvar",
                ]);
                format!("{name}({inner})")
            }
            1 => {
                // What is below the first bound of a classic histogram was NaN in 3.5.
                let lower = self.word(&["0.2", "0.5", "1", "3"]);
                format!("histogram_fraction({lower}, {}, {inner})", self.number())
            }
            _ => {
                let quantile = self.word(&["0.5", "0.9", "0.99", "0", "1", "-1", "2", "NaN"]);
                format!("histogram_quantile({quantile}, {inner})")
            }
        }
    }

    fn relabelled(&mut self, depth: u32) -> String {
        let inner = self.vector(depth - 1);
        let (to, from) = (self.word(&["new", "job", "code"]), self.word(LABELS));
        if self.chance(1, 3) {
            return format!("label_join({inner}, \"{to}\", \"-\", \"job\", \"{from}\")");
        }
        let (value, pattern) = (self.word(&["x", "$1", "", "${1}y"]), self.word(&["(.*)", "a(.*)", "(.).*", ""]));
        format!("label_replace({inner}, \"{to}\", \"{value}\", \"{from}\", \"{pattern}\")")
    }
}
