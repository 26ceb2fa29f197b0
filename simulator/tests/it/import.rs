//! Data in the formats of others: a small example of each, made by hand, and what it must be read to.

use std::path::Path;

use simulator::import::{Format, Imported, Options, Session, Source, Table, import, sessions};

fn read(format: Format, files: &[(&str, &str)], options: &Options) -> Result<Imported, String> {
    let sources: Vec<Source<'_>> = files
        .iter()
        .map(|(name, text)| Source {
            name,
            text: text.as_bytes(),
        })
        .collect();
    import(format, &sources, options).map_err(|e| e.to_string())
}

fn table(format: Format, files: &[(&str, &str)], options: &Options) -> Table {
    match read(format, files, options) {
        Ok(Imported::Intervals(table)) => table,
        other => panic!("{other:?}"),
    }
}

fn csv(table: &Table) -> String {
    let mut text = Vec::new();
    table.write_csv(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

fn refused(format: Format, text: &str, options: &Options) -> String {
    match read(format, &[("file.csv", text)], options) {
        Err(said) => said,
        Ok(read) => panic!("{read:?}"),
    }
}

fn plain() -> Options {
    Options::default()
}

const LCL: &str = "LCLid,stdorToU,DateTime,KWH/hh (per half hour) \n\
MAC000002,Std,2012-10-12 00:30:00.0000000, 0.143 \n\
MAC000002,Std,2012-10-12 01:00:00.0000000, 0.6629999 \n\
MAC000002,Std,2012-10-12 01:13:41.0000000,Null\n\
MAC000002,Std,2012-10-12 02:00:00.0000000, 0.0004 \n\
MAC000003,ToU,2012-10-12 01:30:00.0000000, 1 \n";

#[test]
fn low_carbon_london() {
    let read = table(Format::Lcl, &[("CC_LCL.csv", LCL)], &plain());
    assert_eq!(
        csv(&read),
        "start_utc,MAC000002_consumption_wh,MAC000003_consumption_wh\n\
         2012-10-12T00:00:00Z,143,\n\
         2012-10-12T00:30:00Z,663,\n\
         2012-10-12T01:00:00Z,,1000\n\
         2012-10-12T01:30:00Z,0,\n"
    );
    assert_eq!(
        read.notes,
        ["rows between half hours without a value were left out"]
    );
    let only = Options {
        only: vec!["MAC000003".to_owned()],
        ..plain()
    };
    assert_eq!(table(Format::Lcl, &[("a", LCL)], &only).columns.len(), 1);
    let twice = format!("{LCL}MAC000002,Std,2012-10-12 00:30:00.0000000, 0.143 \n");
    let said = refused(Format::Lcl, &twice, &plain());
    assert!(
        said.starts_with(
            "file.csv, line 7: MAC000002_consumption_wh of 2012-10-12T00:00:00Z is there twice"
        ),
        "{said}"
    );
    assert!(said.ends_with("file.csv, line 2 already"), "{said}");
    let lenient = Options {
        drop_repeats: true,
        ..plain()
    };
    let once = table(Format::Lcl, &[("a", &twice)], &lenient);
    assert_eq!(once.columns, read.columns);
    assert!(
        once.notes
            .iter()
            .any(|note| note.contains("1 values that were there twice"))
    );
    let other = twice
        .replace("0.143 \n", "0.144 \n")
        .replacen("0.144", "0.143", 1);
    let said = refused(Format::Lcl, &other, &lenient);
    assert!(said.contains("is there twice"), "{said}");
    let said = refused(Format::Lcl, &LCL.replace(" 0.143 ", "much"), &plain());
    assert!(said.contains("line 2") && said.contains("much"), "{said}");
    let said = refused(Format::Lcl, &LCL.replace(",Null", ", 0.1"), &plain());
    assert!(
        said.contains("line 4") && said.contains("not on a grid of 1800 s"),
        "{said}"
    );
    let said = refused(Format::Lcl, &LCL.replace("LCLid", "Id"), &plain());
    assert!(said.contains("has no column LCLid"), "{said}");
    let said = refused(
        Format::Lcl,
        &LCL.replace("2012-10-12 00:30", "12/10/2012 00:30"),
        &plain(),
    );
    assert!(
        said.contains("line 2") && said.contains("no stamp"),
        "{said}"
    );
}

/// A day of Ausgrid's format: `value` in every half hour.
fn ausgrid_day(channel: &str, date: &str, value: &str) -> String {
    let values = vec![value; 48].join(",");
    format!("1,3.78,2076,{channel},{date},{values},\n")
}

fn ausgrid() -> String {
    let ends = (1..=48).map(|k| format!("{}:{:02}", (k * 30 / 60) % 24, k * 30 % 60));
    let ends: Vec<String> = ends.collect();
    format!(
        "Solar home half-hour data - made by hand,,,\nCustomer,Generator Capacity,Postcode,Consumption Category,date,{},Row Quality\n{}{}{}",
        ends.join(","),
        ausgrid_day("GC", "1/07/2012", "0.25"),
        ausgrid_day("CL", "1/07/2012", "0.5"),
        ausgrid_day("GG", "1-Jul-12", "0.125"),
    )
}

#[test]
fn ausgrid_solar_home() {
    let read = table(Format::Ausgrid, &[("2012.csv", &ausgrid())], &plain());
    let text = csv(&read);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "start_utc,customer_1_consumption_wh,customer_1_generation_wh"
    );
    // Midnight in UTC+10 is 14:00 of the day before in UTC.
    assert_eq!(lines[1], "2012-06-30T14:00:00Z,750,125");
    assert_eq!(
        (lines.len(), lines[48]),
        (49, "2012-07-01T13:30:00Z,750,125")
    );
    let twice = format!("{}{}", ausgrid(), ausgrid_day("CL", "1/07/2012", "0.5"));
    let said = refused(Format::Ausgrid, &twice, &plain());
    assert!(
        said.contains("line 6: CL of customer_1 on 2012-07-01 is there twice"),
        "{said}"
    );
    let said = refused(
        Format::Ausgrid,
        &ausgrid().replace(",GG,", ",XX,"),
        &plain(),
    );
    assert!(said.contains("line 5") && said.contains("\"XX\""), "{said}");
    let said = refused(
        Format::Ausgrid,
        &ausgrid().replace("1-Jul-12", "July"),
        &plain(),
    );
    assert!(said.contains("line 5") && said.contains("no day"), "{said}");
    let gap = ausgrid().replacen(",0.5,", ",,", 1);
    let read = table(Format::Ausgrid, &[("2012.csv", &gap)], &plain());
    assert_eq!(
        read.columns[0].missing(),
        1,
        "a sum with a part missing is missing"
    );
}

const OPSD: &str = "utc_timestamp,cet_cest_timestamp,DE_KN_residential1_grid_import,DE_KN_residential1_pv,interpolated\n\
2016-01-01T00:00:00Z,2016-01-01T01:00:00+0100,100.0,5.5,\n\
2016-01-01T00:15:00Z,2016-01-01T01:15:00+0100,100.25,5.5,\n\
2016-01-01T00:30:00Z,2016-01-01T01:30:00+0100,,5.75,\n\
2016-01-01T00:45:00Z,2016-01-01T01:45:00+0100,100.5,6.0,DE_KN_residential1_pv\n\
2016-01-01T01:00:00Z,2016-01-01T02:00:00+0100,100.625,6.25,\n\
2016-01-01T01:15:00Z,2016-01-01T02:15:00+0100,0.5,6.5,\n";

#[test]
fn open_power_system_data() {
    let read = table(
        Format::Opsd,
        &[("household_data_15min_singleindex.csv", OPSD)],
        &plain(),
    );
    assert_eq!(
        csv(&read),
        "start_utc,DE_KN_residential1_grid_import_wh,DE_KN_residential1_pv_generation_wh\n\
         2016-01-01T00:00:00Z,250,0\n\
         2016-01-01T00:15:00Z,,250\n\
         2016-01-01T00:30:00Z,,\n\
         2016-01-01T00:45:00Z,125,\n\
         2016-01-01T01:00:00Z,,250\n"
    );
    assert!(
        read.notes
            .iter()
            .any(|note| note.contains("falls after line 6")),
        "{:?}",
        read.notes
    );
    let back = OPSD.replace("2016-01-01T00:30:00Z", "2016-01-01T00:15:00Z");
    let said = refused(Format::Opsd, &back, &plain());
    assert!(
        said.contains("line 4") && said.contains("not after"),
        "{said}"
    );
}

#[test]
fn wpuq() {
    let text = "index,S_TOT,P_TOT\n1546300800,900,800.0\n1546301700,900,\n1546302600,900,-1200.0\n";
    let read = table(Format::Wpuq, &[("x/SFH3_HOUSEHOLD.csv", text)], &plain());
    assert_eq!(
        csv(&read),
        "start_utc,SFH3_HOUSEHOLD_net_wh\n\
         2019-01-01T00:00:00Z,200\n\
         2019-01-01T00:15:00Z,\n\
         2019-01-01T00:30:00Z,-300\n"
    );
    let stamped = text.replace("1546300800", "2019-01-01 00:00:00+00:00");
    assert_eq!(
        table(Format::Wpuq, &[("SFH3_HOUSEHOLD.csv", &stamped)], &plain()),
        read
    );
    let said = refused(Format::Wpuq, &text.replace("1546300800", "noon"), &plain());
    assert!(said.contains("line 2") && said.contains("noon"), "{said}");
}

const ACN: &str = r#"{"_items":[
{"_id":"b","sessionID":"s2","stationID":"2-39-78-362","siteID":"0002","timezone":"America/Los_Angeles",
 "connectionTime":"Wed, 25 Apr 2018 13:45:10 GMT","disconnectTime":"Thu, 26 Apr 2018 00:56:16 GMT","doneChargingTime":null,
 "kWhDelivered":33.097,"userID":"22","userInputs":[
  {"kWhRequested":20.0,"requestedDeparture":"Wed, 25 Apr 2018 20:00:00 GMT","userID":22},
  {"kWhRequested":40.5,"requestedDeparture":"Thu, 26 Apr 2018 01:00:00 GMT","userID":22}]},
{"_id":"a","sessionID":"s1","stationID":"2-39-79-379","siteID":"0002","timezone":"America/Los_Angeles",
 "connectionTime":"Wed, 25 Apr 2018 11:08:04 GMT","disconnectTime":"Wed, 25 Apr 2018 13:20:10 GMT",
 "doneChargingTime":"Wed, 25 Apr 2018 13:21:10 GMT","kWhDelivered":7.932,"userID":null,"userInputs":null}],
"_meta":{"page":1}}"#;

fn acn(text: &str) -> Vec<Session> {
    match read(Format::Acn, &[("acn.json", text)], &plain()) {
        Ok(Imported::Sessions(sessions)) => sessions,
        other => panic!("{other:?}"),
    }
}

#[test]
fn acn_data() {
    let mut text = Vec::new();
    sessions::write_csv(&acn(ACN), &mut text).unwrap();
    assert_eq!(
        String::from_utf8(text).unwrap(),
        "session,station,connected_utc,disconnected_utc,done_charging_utc,energy_wh,requested_wh,requested_departure_utc\n\
         s1,2-39-79-379,2018-04-25T11:08:04Z,2018-04-25T13:20:10Z,2018-04-25T13:21:10Z,7932,,\n\
         s2,2-39-78-362,2018-04-25T13:45:10Z,2018-04-26T00:56:16Z,,33097,40500,2018-04-26T01:00:00Z\n"
    );
    let said = refused(Format::Acn, &ACN.replace("\"s2\"", "\"s1\""), &plain());
    assert!(
        said.contains("session s1 (the 2. of the file): is there twice"),
        "{said}"
    );
    let said = refused(
        Format::Acn,
        &ACN.replace("26 Apr 2018 00:56:16", "24 Apr 2018 00:56:16"),
        &plain(),
    );
    assert!(said.contains("session s2"), "{said}");
    let said = refused(Format::Acn, &ACN.replace("7.932", "-7.932"), &plain());
    assert!(
        said.contains("session s1") && said.contains("kWhDelivered"),
        "{said}"
    );
    let said = refused(Format::Acn, "arrival,departure\n", &plain());
    assert!(said.contains("no page of ACN-Data"), "{said}");
}

#[test]
fn smard_in_german_with_the_night_of_25_hours() {
    let text = "\u{feff}Datum von;Datum bis;Photovoltaik [MWh] Originalauflösungen;Wind Onshore [MWh] Originalauflösungen\n\
        27.10.2024 01:00;27.10.2024 02:00;0;1.234,5\n\
        27.10.2024 02:00;27.10.2024 02:00;0;-\n\
        27.10.2024 02:00;27.10.2024 03:00;0;7,25\n\
        27.10.2024 03:00;27.10.2024 04:00;0,000001;8\n";
    let read = table(
        Format::Smard,
        &[("Realisierte_Erzeugung.csv", text)],
        &plain(),
    );
    assert_eq!(
        csv(&read),
        "start_utc,photovoltaik_generation_wh,wind_onshore_generation_wh\n\
         2024-10-26T23:00:00Z,0,1234500000\n\
         2024-10-27T00:00:00Z,0,\n\
         2024-10-27T01:00:00Z,0,7250000\n\
         2024-10-27T02:00:00Z,1,8000000\n"
    );
    let said = refused(
        Format::Smard,
        &text.replace("03:00;27.10.2024 04", "02:00;27.10.2024 04"),
        &plain(),
    );
    assert!(
        said.contains("line 5") && said.contains("is there twice"),
        "{said}"
    );
    let spring = text.replace("27.10.2024", "31.03.2024");
    let said = refused(Format::Smard, &spring, &plain());
    assert!(
        said.contains("line 3") && said.contains("never on a clock"),
        "{said}"
    );
}

#[test]
fn smard_in_english_with_prices_and_demand() {
    let text = "Start date;End date;Germany/Luxembourg [€/MWh] Original resolutions;Installed [MW] x\n\
        Jan 1, 2024 12:00 AM;Jan 1, 2024 1:00 AM;-5.41;1\n\
        Jan 1, 2024 1:00 AM;Jan 1, 2024 2:00 AM;2,325.83;1\n";
    let read = table(Format::Smard, &[("Day-ahead_prices.csv", text)], &plain());
    assert_eq!(
        csv(&read),
        "start_utc,germany_luxembourg_price_micro_per_kwh\n\
         2023-12-31T23:00:00Z,-5410\n\
         2024-01-01T00:00:00Z,2325830\n"
    );
    assert_eq!(read.notes.len(), 1, "{:?}", read.notes);
    let text = "Datum;Anfang;Ende;Gesamt (Netzlast) [MWh] x\n01.01.2021;00:00;00:15;11.000,5\n01.01.2021;00:15;00:30;10\n";
    let read = table(
        Format::Smard,
        &[("Realisierter_Stromverbrauch.csv", text)],
        &plain(),
    );
    let first = "start_utc,gesamt_netzlast_consumption_wh\n2020-12-31T23:00:00Z,11000500000\n";
    assert!(csv(&read).starts_with(first), "{}", csv(&read));
}

#[test]
fn simbench() {
    let load = "id;node;profile;pLoad;qLoad;sR;subnet;voltLvl\n\
        LV1.101 Load 1;LV1.101 Bus 9;H0-A;0.004;0.001;0.005;LV1.101;7\n\
        LV1.101 Load 2;LV1.101 Bus 7;H0-A;0.002;0.001;0.005;LV1.101;7\n";
    let profile =
        "time;H0-A_pload;H0-A_qload\n01.01.2016 00:00;0.5;0.4\n01.01.2016 00:15;0.25;0.2\n";
    let res = "id;node;type;profile;calc_type;pRES;qRES;sR;subnet;voltLvl\nLV1.101 SGen 1;LV1.101 Bus 6;PV;PV5;pq;0.01;0;0.01;LV1.101;7\n";
    let res_profile = "time;PV5\n01.01.2016 00:00;0\n01.01.2016 00:15;1\n";
    let files = [
        ("sb/Load.csv", load),
        ("sb/LoadProfile.csv", profile),
        ("sb/RES.csv", res),
        ("sb/RESProfile.csv", res_profile),
    ];
    assert_eq!(
        csv(&table(Format::Simbench, &files, &plain())),
        "start_utc,LV1.101_Load_1_consumption_wh,LV1.101_Load_2_consumption_wh,LV1.101_SGen_1_generation_wh\n\
         2015-12-31T23:00:00Z,500,250,0\n\
         2015-12-31T23:15:00Z,250,125,2500\n"
    );
    let said = read(Format::Simbench, &files[..1], &plain()).unwrap_err();
    assert!(
        said.contains("Load.csv and LoadProfile.csv belong together"),
        "{said}"
    );
    let other = [
        files[0],
        ("LoadProfile.csv", "time;G0-A_pload\n01.01.2016 00:00;1\n"),
    ];
    let said = read(Format::Simbench, &other, &plain()).unwrap_err();
    assert!(said.contains("has no column H0-A_pload"), "{said}");
    let said = read(Format::Simbench, &files[..0], &plain()).unwrap_err();
    assert!(said.contains("no file was named"), "{said}");
}

const CITYLEARN: &str = "month,hour,day_type,daylight_savings_status,non_shiftable_load,solar_generation\n\
    7,24,7,0,2.2758,0.0\n8,1,1,0,0.85117,0.0\n8,2,1,0,,125.5\n";

#[test]
fn citylearn() {
    let options = Options {
        start: Some("2016-07-31T23:00".to_owned()),
        zone: Some(chrono_tz::America::Los_Angeles),
        pv_kw: Some(4.0),
        ..plain()
    };
    assert_eq!(
        csv(&table(
            Format::Citylearn,
            &[("Building_1.csv", CITYLEARN)],
            &options
        )),
        "start_utc,Building_1_consumption_wh,Building_1_generation_wh\n\
         2016-08-01T06:00:00Z,2276,0\n\
         2016-08-01T07:00:00Z,851,0\n\
         2016-08-01T08:00:00Z,,502\n"
    );
    let without = Options {
        pv_kw: None,
        ..options.clone()
    };
    let read = table(
        Format::Citylearn,
        &[("Building_1.csv", CITYLEARN)],
        &without,
    );
    assert_eq!((read.columns.len(), read.notes.len()), (1, 1));
    let said = refused(Format::Citylearn, CITYLEARN, &plain());
    assert!(said.contains("--start"), "{said}");
    let said = refused(
        Format::Citylearn,
        &CITYLEARN.replace("8,2,1", "8,3,1"),
        &options,
    );
    assert!(said.contains("line 4: hour 3 follows hour 1"), "{said}");
    let said = refused(
        Format::Citylearn,
        &CITYLEARN.replace("8,2,1", "8,25,1"),
        &options,
    );
    assert!(
        said.contains("line 4") && said.contains("no hour"),
        "{said}"
    );
}

/// Real days of 17 homes in California, if they are on this machine: they come from `CityLearn`'s files, put side by side,
/// so a home's two columns are put back into the format and the sum is compared.
#[test]
fn real_homes_keep_their_energy_to_the_watt_hour() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let Ok(text) = std::fs::read_to_string(data.join("homes_fontana_01_10_hourly.csv")) else {
        println!("skipped: homes_fontana_01_10_hourly.csv of shared/data is not on this machine");
        return;
    };
    let mut file = "month,hour,non_shiftable_load\n".to_owned();
    let mut kwh = 0.0;
    for line in text.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        file += &format!("{},{},{}\n", cells[1], cells[2], cells[4]);
        kwh += cells[4].parse::<f64>().unwrap();
    }
    let options = Options {
        start: Some("2016-07-31T23:00".to_owned()),
        ..plain()
    };
    let read = table(Format::Citylearn, &[("home_01.csv", &file)], &options);
    let sum: i64 = read.columns[0].values.iter().flatten().sum();
    assert_eq!(read.intervals, 8760);
    let off = (kwh * 1e3 - f64::from(i32::try_from(sum).unwrap())).abs();
    assert!(off < 1.0, "{sum} Wh and {kwh} kWh");
}

#[test]
fn files_that_are_none_are_refused() {
    for format in Format::ALL {
        assert_eq!(Format::from_name(format.name()), Some(format));
        let said = refused(format, "", &plain());
        assert!(!said.is_empty());
    }
    let said = refused(
        Format::Lcl,
        "LCLid,DateTime,KWH/hh\na,2012-10-12 00:30:00\n",
        &plain(),
    );
    assert!(
        said.contains("line 2: has 2 cells, and the header 3"),
        "{said}"
    );
}
