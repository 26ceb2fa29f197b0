//! Tables as Parquet: the same columns, with unit and meaning in the metadata of each field, and the street's
//! time zone in that of the file. Written with the Parquet writer of polars: numbers as differences from row to row,
//! words as places in a list, which is quicker and smaller than what its defaults make of a run's tables.

use std::sync::Arc;

use polars_arrow::array::{Array, DictionaryArray, PrimitiveArray, Utf8ViewArray};
use polars_arrow::bitmap::Bitmap;
use polars_arrow::datatypes::{ArrowDataType, ArrowSchema, Field, IntegerType, Metadata, TimeUnit};
use polars_arrow::record_batch::RecordBatchT;
use polars_arrow::types::NativeType;
use polars_parquet::write::{
    CompressionOptions, Encoding, FileWriter, KeyValue, RowGroupIterator, StatisticsOptions,
    Version, WriteOptions, ZstdLevel, schema_to_metadata_key,
};

use super::table::{Column, Data, Group, HashedFile, Kind, Numbers, Sink, Table};

/// How hard zstd tries: differences and places leave little to find.
const ZSTD_LEVEL: i32 = 1;

/// A Parquet file that rows are added to, group by group.
pub(super) struct Parquet {
    table: &'static Table,
    run_id: String,
    zone: String,
    /// What readers are told that columns are.
    told: ArrowSchema,
    /// What columns are here: words are places in a list.
    schema: Arc<ArrowSchema>,
    options: WriteOptions,
    writer: FileWriter<HashedFile>,
}

const RUN_ID: Column = Column {
    name: "run_id",
    kind: Kind::Word,
    unit: "",
    description: "the run",
};

impl Parquet {
    /// Begins a file; `zone` is that of the street's clocks (times are UTC).
    pub(super) fn new(
        table: &'static Table,
        file: HashedFile,
        run_id: &str,
        zone: &str,
    ) -> Result<Self, String> {
        let columns = || std::iter::once(&RUN_ID).chain(table.columns);
        let schema: ArrowSchema = columns().map(|c| field(c, dtype(c.kind))).collect();
        let options = WriteOptions {
            statistics: StatisticsOptions::default(),
            version: Version::V1,
            compression: CompressionOptions::Zstd(Some(
                ZstdLevel::try_new(ZSTD_LEVEL).map_err(|e| e.to_string())?,
            )),
            data_page_size: None,
        };
        let writer = FileWriter::try_new(file, schema.clone(), options);
        Ok(Parquet {
            table,
            run_id: run_id.to_owned(),
            zone: zone.to_owned(),
            told: columns().map(|c| field(c, plain(dtype(c.kind)))).collect(),
            schema: Arc::new(schema),
            options,
            writer: writer.map_err(|e| e.to_string())?,
        })
    }

    /// What every reader can see without this program: what a row is, and the zone of the street's clocks.
    fn metadata(&self) -> Vec<KeyValue> {
        let pair = |key: &str, value: &str| KeyValue {
            key: key.to_owned(),
            value: Some(value.to_owned()),
        };
        vec![
            schema_to_metadata_key(&self.told),
            pair("table", self.table.name),
            pair("row", self.table.about),
            pair("time_zone", &self.zone),
        ]
    }
}

fn dtype(kind: Kind) -> ArrowDataType {
    match kind {
        Kind::Int => ArrowDataType::Int64,
        Kind::Real => ArrowDataType::Float64,
        Kind::Text => ArrowDataType::Utf8View,
        Kind::Word => {
            let words = Box::new(ArrowDataType::Utf8View);
            ArrowDataType::Dictionary(IntegerType::UInt32, words, false)
        }
        Kind::Time => ArrowDataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
    }
}

/// What a reader is told: words are text.
fn plain(dtype: ArrowDataType) -> ArrowDataType {
    match dtype {
        ArrowDataType::Dictionary(_, words, _) => *words,
        other => other,
    }
}

const fn encoding(kind: Kind) -> Encoding {
    match kind {
        Kind::Int | Kind::Time => Encoding::DeltaBinaryPacked,
        Kind::Real | Kind::Text => Encoding::Plain,
        Kind::Word => Encoding::RleDictionary,
    }
}

fn field(column: &Column, dtype: ArrowDataType) -> Field {
    let words = [("unit", column.unit), ("description", column.description)];
    let metadata: Metadata = words
        .into_iter()
        .map(|(key, value)| (key.into(), value.into()))
        .collect();
    Field {
        metadata: Some(Arc::new(metadata)),
        ..Field::new(column.name.into(), dtype, true)
    }
}

fn numbers<T: NativeType>(list: Numbers<T>) -> PrimitiveArray<T> {
    let known = (!list.known.is_empty()).then(|| Bitmap::from(list.known.as_slice()));
    PrimitiveArray::from_vec(list.values).with_validity(known)
}

/// Places in the list of all words, as places in a list of those that occur here.
fn words(places: &[u32], all: &[Arc<str>]) -> Result<Box<dyn Array>, String> {
    const UNSEEN: u32 = u32::MAX;
    let mut here: Vec<Option<&str>> = Vec::new();
    let mut moved = vec![UNSEEN; all.len()];
    let mut keys = Vec::with_capacity(places.len());
    let mut known = Vec::new();
    for place in places {
        let at = usize::try_from(*place).map_err(|e| e.to_string())?;
        let to = moved.get_mut(at).ok_or("a word that is not in the list")?;
        if *to == UNSEEN {
            *to = u32::try_from(here.len()).map_err(|e| e.to_string())?;
            here.push(Some(&*all[at]));
        }
        keys.push(*to);
        if at == 0 {
            known.resize(keys.len() - 1, true);
            known.push(false);
        }
    }
    let none = known.is_empty();
    known.resize(keys.len(), true);
    let known = (!none).then(|| Bitmap::from(known.as_slice()));
    let keys = PrimitiveArray::from_vec(keys).with_validity(known);
    let array = DictionaryArray::try_new(
        dtype(Kind::Word),
        keys,
        Utf8ViewArray::from_slice(here).boxed(),
    );
    Ok(array.map_err(|e| e.to_string())?.boxed())
}

fn array(data: Data, all: &[Arc<str>], rows: usize) -> Result<Box<dyn Array>, String> {
    Ok(match data {
        Data::Int(list) => numbers(list).boxed(),
        Data::Real(list) => numbers(list).boxed(),
        Data::Text(_, ends) if ends.is_empty() => {
            Utf8ViewArray::new_null(ArrowDataType::Utf8View, rows).boxed()
        }
        Data::Text(texts, ends) => {
            let texts = (0..rows).map(|row| Data::text(&texts, &ends, row));
            Utf8ViewArray::from_slice(texts.collect::<Vec<Option<&str>>>()).boxed()
        }
        Data::Word(places) => words(&places, all)?,
        Data::Time(list) => {
            let ms: Vec<i64> = list.into_iter().map(|s| s * 1000).collect();
            PrimitiveArray::<i64>::from_vec(ms)
                .to(dtype(Kind::Time))
                .boxed()
        }
    })
}

impl Sink for Parquet {
    fn write(&mut self, group: Group) -> Result<(), String> {
        if group.rows == 0 {
            return Ok(());
        }
        let run = DictionaryArray::try_new(
            dtype(Kind::Word),
            PrimitiveArray::from_vec(vec![0_u32; group.rows]),
            Utf8ViewArray::from_slice([Some(&self.run_id)]).boxed(),
        );
        let mut arrays = vec![run.map_err(|e| e.to_string())?.boxed()];
        for data in group.columns {
            arrays.push(array(data, &group.words, group.rows)?);
        }
        let batch = RecordBatchT::try_new(group.rows, Arc::clone(&self.schema), arrays);
        let columns = std::iter::once(&RUN_ID).chain(self.table.columns);
        let encodings: Vec<Vec<Encoding>> = columns.map(|c| vec![encoding(c.kind)]).collect();
        let groups = RowGroupIterator::try_new(
            std::iter::once(batch),
            &self.schema,
            self.options,
            encodings.into(),
        );
        for written in groups.map_err(|e| e.to_string())? {
            let written = written.map_err(|e| e.to_string())?;
            let written = self.writer.write(group.rows as u64, written);
            written.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        let metadata = self.metadata();
        let ended = self.writer.end(Some(metadata));
        ended.map(drop).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::table::{Cell, FileKind, ROWS_MAX, TableWriter};
    use crate::run::tables::READINGS;
    use polars::prelude::{ParquetReader, SerReader};
    use polars_parquet::read::{infer_schema, read_metadata};

    #[test]
    fn values_units_and_the_zone_are_read_again() {
        let folder =
            std::env::temp_dir().join(format!("commonwatt-parquet-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let zone = "Europe/Berlin";
        let mut table =
            TableWriter::create(&folder, &READINGS, FileKind::Parquet, "r1", zone).unwrap();
        for (start_s, home, wh) in [(0, "home-01", Some(5)), (900, "home-02", None)] {
            let wh = wh.map_or(Cell::Missing, Cell::Int);
            let cells = [
                Cell::Time(start_s),
                Cell::Text(home),
                wh,
                wh,
                wh,
                wh,
                Cell::Text("measured"),
            ];
            table.push(&cells).unwrap();
        }
        let written = table.finish().unwrap();
        let path = folder.join(&written.file);
        let mut file = std::fs::File::open(&path).unwrap();
        let metadata = read_metadata(&mut file).unwrap();
        let schema = infer_schema(&metadata).unwrap();
        let frame = ParquetReader::new(std::fs::File::open(&path).unwrap())
            .with_columns(Some(vec!["home".to_owned(), "import_end_wh".to_owned()]))
            .finish()
            .unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!((written.rows, metadata.num_rows), (2, 2));
        let import = schema.get("import_end_wh").unwrap();
        let words = import.metadata.as_ref().unwrap();
        assert_eq!(words.get("unit").map(|unit| unit.as_str()), Some("Wh"));
        assert_eq!(schema.get("start").unwrap().dtype, dtype(Kind::Time));
        let pairs = metadata.key_value_metadata.as_ref().unwrap();
        let zones = pairs.iter().filter(|pair| pair.key == "time_zone");
        assert_eq!(
            zones.map(|pair| pair.value.as_deref()).collect::<Vec<_>>(),
            [Some(zone)]
        );
        let column = frame
            .column("import_end_wh")
            .unwrap()
            .i64()
            .unwrap()
            .to_vec();
        assert_eq!(column, [Some(5), None]);
    }

    #[test]
    fn words_and_what_is_missing_are_read_again_from_every_group() {
        const TABLE: Table = Table {
            name: "words",
            about: "one of each",
            columns: &[
                Column {
                    name: "home",
                    kind: Kind::Word,
                    unit: "",
                    description: "",
                },
                Column {
                    name: "id",
                    kind: Kind::Text,
                    unit: "",
                    description: "",
                },
                Column {
                    name: "wh",
                    kind: Kind::Int,
                    unit: "Wh",
                    description: "",
                },
            ],
        };
        let rows = ROWS_MAX + 1000;
        let home = |row: usize| match row {
            row if row >= ROWS_MAX => Some(format!("late-{}", row % 7)),
            row => (!row.is_multiple_of(5)).then(|| format!("home-{}", row % 5)),
        };
        let id = |row: usize| (row % 3 == 1).then(|| format!("id-{row}"));
        let wh = |row: usize| {
            let mixed = i64::try_from(row * 7919 % 1001).unwrap() - 500;
            (!row.is_multiple_of(4)).then_some(mixed)
        };
        let folder = tempfile::tempdir().unwrap();
        let kind = FileKind::Parquet;
        let mut table = TableWriter::create(folder.path(), &TABLE, kind, "r1", "UTC").unwrap();
        for row in 0..rows {
            let (home, id) = (home(row), id(row));
            let cells = [
                home.as_deref().map_or(Cell::Missing, Cell::Text),
                id.as_deref().map_or(Cell::Missing, Cell::Text),
                wh(row).map_or(Cell::Missing, Cell::Int),
            ];
            table.push(&cells).unwrap();
        }
        let path = folder.path().join(table.finish().unwrap().file);
        let read = ParquetReader::new(std::fs::File::open(path).unwrap());
        let frame = read.finish().unwrap();
        assert_eq!(frame.height(), rows);
        let text = |name: &str| frame.column(name).unwrap().str().unwrap().clone();
        let (run_ids, homes, ids) = (text("run_id"), text("home"), text("id"));
        let energies = frame.column("wh").unwrap().i64().unwrap();
        for row in 0..rows {
            assert_eq!(run_ids.get(row), Some("r1"));
            assert_eq!(homes.get(row), home(row).as_deref(), "row {row}");
            assert_eq!(ids.get(row), id(row).as_deref(), "row {row}");
            assert_eq!(energies.get(row), wh(row), "row {row}");
        }
    }
}
