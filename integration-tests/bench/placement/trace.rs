//! Reads node and pod lists in the format of the openb trace: CSV with a header, columns found by name. It
//! knows nothing of what is run on them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::cluster::{ANY_MODEL, MAX_GPUS, Node, Room, Shape, WHOLE};
use crate::options::Failure;

/// A mask has a bit for each model.
const MOST_MODELS: usize = 31;
/// What the names of pod lists begin with.
const POD_LIST: &str = "openb_pod_list_";

/// The nodes of a list, in its order, empty.
#[derive(Debug)]
pub struct Fleet {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The models; the position is the bit.
    models: Vec<String>,
}

/// The pods of a list, in its order.
#[derive(Debug)]
pub struct Trace {
    /// The file's name without what all have in common: `default`.
    pub name: String,
    /// The pods.
    pub pods: Vec<Shape>,
}

/// Reads a list of nodes.
///
/// # Errors
/// Says which file or line cannot be read.
pub fn read_fleet(path: &Path) -> Result<Fleet, Failure> {
    let mut fleet = Fleet { nodes: Vec::new(), models: Vec::new() };
    for line in Table::read(path)?.lines() {
        let count = usize::try_from(line.number("gpu")?).unwrap_or(usize::MAX);
        if count > MAX_GPUS {
            return Err(line.wrong(&format!("a node has at most {MAX_GPUS} GPUs here")));
        }
        let mut gpus = [0; MAX_GPUS];
        gpus.iter_mut().take(count).for_each(|gpu| *gpu = WHOLE);
        let model = if count == 0 { 0 } else { fleet.bit_of(line.text("model")?, &line)? };
        let capacity =
            Room { cpu_millis: line.number("cpu_milli")?, memory_mib: line.number("memory_mib")?, gpus };
        fleet.nodes.push(Node::new(capacity, model));
    }
    Ok(fleet)
}

/// Reads a list of pods. A model that no node has makes a pod that fits nowhere.
///
/// # Errors
/// Says which file or line cannot be read.
pub fn read_trace(path: &Path, fleet: &Fleet) -> Result<Trace, Failure> {
    let table = Table::read(path)?;
    let pods = table.lines().map(|line| pod(&line, fleet)).collect::<Result<_, _>>()?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    Ok(Trace { name: stem.strip_prefix(POD_LIST).unwrap_or(&stem).to_owned(), pods })
}

/// The file of a list that is called by its short name.
pub fn file_of(name: &str) -> String {
    format!("{POD_LIST}{name}.csv")
}

fn pod(line: &Line<'_>, fleet: &Fleet) -> Result<Shape, Failure> {
    let gpus = u16::try_from(line.number("num_gpu")?).unwrap_or(u16::MAX);
    let gpu_millis = line.number("gpu_milli")?;
    let is_whole = gpu_millis == u64::from(WHOLE);
    let is_part = gpus == 1 && (1..u64::from(WHOLE)).contains(&gpu_millis);
    let gpu_millis = match gpus {
        0 => 0,
        _ if is_whole || is_part => u16::try_from(gpu_millis).unwrap_or(WHOLE),
        _ => return Err(line.wrong("a pod has whole GPUs, or a part of one")),
    };
    // Some lists have no such column: any model will do.
    let models = match line.text("gpu_spec").unwrap_or_default() {
        "" => ANY_MODEL,
        _ if gpus == 0 => ANY_MODEL,
        named => named.split('|').filter_map(|model| fleet.bit(model)).fold(0, |all, bit| all | bit),
    };
    Ok(Shape {
        cpu_millis: line.number("cpu_milli")?,
        memory_mib: line.number("memory_mib")?,
        gpus,
        gpu_millis,
        models,
    })
}

impl Fleet {
    fn bit(&self, model: &str) -> Option<u32> {
        self.models.iter().position(|known| known == model).map(|position| 1 << position)
    }

    fn bit_of(&mut self, model: &str, line: &Line<'_>) -> Result<u32, Failure> {
        if let Some(bit) = self.bit(model) {
            return Ok(bit);
        }
        if self.models.len() == MOST_MODELS {
            return Err(line.wrong(&format!("there are at most {MOST_MODELS} models here")));
        }
        self.models.push(model.to_owned());
        Ok(1 << (self.models.len() - 1))
    }
}

struct Table {
    path: PathBuf,
    text: String,
    columns: HashMap<String, usize>,
}

struct Line<'a> {
    table: &'a Table,
    number: usize,
    cells: Vec<&'a str>,
}

impl Table {
    fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let hint = "set BERTH_OPENB_DIR to the folder with the lists of the openb trace";
            Failure::missing(format!("{} cannot be read ({error}): {hint}.", path.display()))
        })?;
        let header = text.lines().next().unwrap_or_default();
        let columns = header.split(',').enumerate().map(|(index, name)| (name.to_owned(), index)).collect();
        Ok(Self { path: path.to_owned(), columns, text })
    }

    fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let lines = self.text.lines().enumerate().skip(1).filter(|(_, line)| !line.is_empty());
        lines.map(|(index, line)| Line { table: self, number: index + 1, cells: line.split(',').collect() })
    }
}

impl<'a> Line<'a> {
    fn text(&self, column: &str) -> Result<&'a str, Failure> {
        let cell = self.table.columns.get(column).and_then(|index| self.cells.get(*index));
        cell.copied().ok_or_else(|| self.wrong(&format!("there is no column {column}")))
    }

    fn number(&self, column: &str) -> Result<u64, Failure> {
        let text = self.text(column)?;
        text.parse().map_err(|_| self.wrong(&format!("{column} is not a whole number: {text:?}")))
    }

    fn wrong(&self, why: &str) -> Failure {
        Failure::failed(format!("{}:{}: {why}.", self.table.path.display(), self.number))
    }
}
