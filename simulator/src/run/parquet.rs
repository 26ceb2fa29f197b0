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
