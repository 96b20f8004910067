//! `process_*`: what the system knows about this process.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Reads `/proc/self` at each scrape, for the metrics every Prometheus client library has, under the same names.
///
/// Where there is no `/proc`, or a value cannot be read, the metric is left out rather than set to zero.
#[derive(Debug, Default)]
pub struct ProcessCollector;

/// The kernel gives CPU times in ticks of `USER_HZ`, which is 100 on all its common architectures; asking `sysconf` for it
/// would need unsafe code.
const USER_HZ: f64 = 100.0;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(stat) = Stat::read() else { return Ok(()) };
        let cpu = ConstCounter::new(stat.cpu_seconds);
        cpu.encode(encoder.encode_descriptor(
            "process_cpu_seconds",
            "Total user and system CPU time spent in seconds.",
            None,
            cpu.metric_type(),
        )?)?;
        let gauges = [
            ("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", stat.start_time),
            ("process_threads", "Number of OS threads in the process.", stat.threads),
            ("process_virtual_memory_bytes", "Virtual memory size in bytes.", stat.virtual_bytes),
            (
                "process_virtual_memory_max_bytes",
                "Maximum amount of virtual memory available in bytes.",
                limit("Max address space"),
            ),
            ("process_resident_memory_bytes", "Resident memory size in bytes.", resident_bytes()),
            ("process_open_fds", "Number of open file descriptors.", open_fds()),
            ("process_max_fds", "Maximum number of open file descriptors.", limit("Max open files")),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

struct Stat {
    cpu_seconds: f64,
    threads: Option<f64>,
    virtual_bytes: Option<f64>,
    start_time: Option<f64>,
}

impl Stat {
    /// Fields by their numbers in proc(5); the second, the name of the program, may hold blanks and parentheses.
    fn read() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        let rest = &text[text.rfind(')')? + 1..];
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let boot = std::fs::read_to_string("/proc/stat").ok();
        let boot = boot.as_deref().and_then(|t| t.lines().find_map(|l| l.strip_prefix("btime ")?.parse::<f64>().ok()));
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / USER_HZ,
            threads: field(20),
            start_time: boot.and_then(|boot| Some(boot + field(22)? / USER_HZ)),
            virtual_bytes: field(23),
        })
    }
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

fn open_fds() -> Option<f64> {
    u32::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count()).ok().map(f64::from)
}

/// The soft limit; `unlimited` becomes the largest number, as in the Go client.
fn limit(name: &str) -> Option<f64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let soft = limits.lines().find_map(|l| l.strip_prefix(name))?.split_whitespace().next()?;
    if soft == "unlimited" { Some(u64::MAX as f64) } else { soft.parse().ok() }
}
