-- Where a station's line was metered, and who bore it where no session ran; lines from before have neither.
ALTER TABLE settle_station_lines ADD COLUMN point TEXT;
ALTER TABLE settle_station_lines ADD COLUMN bearer TEXT;
CREATE INDEX settle_station_lines_point ON settle_station_lines (point, start_s, run);

-- Who ever had a part in a station: whose it was, and on whose ground it stood.
CREATE TABLE settle_station_parties (
    station TEXT NOT NULL,
    party TEXT NOT NULL,
    PRIMARY KEY (station, party)
) STRICT, WITHOUT ROWID;
INSERT INTO settle_station_parties (station, party)
SELECT DISTINCT s.station, json_extract(o.value, '$[0]')
FROM settle_charging s, json_each(s.promise, '$.owners_basis_points') o;

-- The sessions of a month that were not paid are those whose payment was refused in it.
CREATE INDEX settle_charging_refused ON settle_charging_events (at_ms)
    WHERE event = '"capture_refused"';
