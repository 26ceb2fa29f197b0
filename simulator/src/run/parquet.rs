//! Tables as Parquet: the same columns, with unit and meaning in the metadata of each field, and the street's
//! time zone in that of the file. Written with the Parquet writer of polars.

use std::sync::Arc;

use polars_arrow::array::{Array, PrimitiveArray, Utf8ViewArray};
use polars_arrow::datatypes::{ArrowDataType, ArrowSchema, Field, Metadata, TimeUnit};
use polars_arrow::record_batch::RecordBatchT;
use polars_parquet::write::{
    CompressionOptions, Encoding, FileWriter, KeyValue, RowGroupIterator, StatisticsOptions,
    Version, WriteOptions, get_dtype_encoding, schema_to_metadata_key,
};

use super::table::{Column, Data, HashedFile, Kind, Sink, Table};

/// A Parquet file that rows are added to, group by group.
pub(super) struct Parquet {
    table: &'static Table,
    zone: String,
    schema: Arc<ArrowSchema>,
    options: WriteOptions,
    writer: FileWriter<HashedFile>,
}

const RUN_ID: Column = Column {
    name: "run_id",
    kind: Kind::Text,
    unit: "",
    description: "the run",
};

impl Parquet {
    /// Begins a file; `zone` is that of the street's clocks (times are UTC).
    pub(super) fn new(table: &'static Table, file: HashedFile, zone: &str) -> Result<Self, String> {
        let columns = std::iter::once(&RUN_ID).chain(table.columns);
        let schema: ArrowSchema = columns.map(field).collect();
        let options = WriteOptions {
            statistics: StatisticsOptions::default(),
            version: Version::V1,
            compression: CompressionOptions::Zstd(None),
            data_page_size: None,
        };
        let writer = FileWriter::try_new(file, schema.clone(), options);
        Ok(Parquet {
            table,
            zone: zone.to_owned(),
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
            schema_to_metadata_key(&self.schema),
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
        Kind::Time => ArrowDataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
    }
}

fn field(column: &Column) -> Field {
    let words = [("unit", column.unit), ("description", column.description)];
    let metadata: Metadata = words
        .into_iter()
        .map(|(key, value)| (key.into(), value.into()))
        .collect();
    Field {
        metadata: Some(Arc::new(metadata)),
        ..Field::new(column.name.into(), dtype(column.kind), true)
    }
}

fn array(data: &Data, count: usize) -> Box<dyn Array> {
    match data {
        Data::Int(list) => PrimitiveArray::<i64>::from_iter(list.iter().copied()).boxed(),
        Data::Real(list) => PrimitiveArray::<f64>::from_iter(list.iter().copied()).boxed(),
        Data::Text(all, ends) => {
            let rows = (0..count).map(|row| Data::text(all, ends, row));
            Utf8ViewArray::from_slice_values(rows.collect::<Vec<&str>>()).boxed()
        }
        Data::Time(list) => {
            let ms: Vec<i64> = list.iter().map(|s| s * 1000).collect();
            PrimitiveArray::<i64>::from_vec(ms)
                .to(dtype(Kind::Time))
                .boxed()
        }
    }
}

impl Sink for Parquet {
    fn write(&mut self, columns: &[Data], count: usize) -> Result<(), String> {
        if count == 0 {
            return Ok(());
        }
        let arrays = columns.iter().map(|data| array(data, count)).collect();
        let batch = RecordBatchT::try_new(count, Arc::clone(&self.schema), arrays);
        let encodings: Vec<Vec<Encoding>> = (self.schema.iter_values())
            .map(|field| get_dtype_encoding(&field.dtype))
            .collect();
        let groups = RowGroupIterator::try_new(
            std::iter::once(batch),
            &self.schema,
            self.options,
            encodings.into(),
        );
        for group in groups.map_err(|e| e.to_string())? {
            let group = group.map_err(|e| e.to_string())?;
            let written = self.writer.write(count as u64, group);
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
    use crate::run::table::{Cell, FileKind, TableWriter};
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
}
