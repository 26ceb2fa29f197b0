-- Sessions of which a reading came after later ones had counted, until they are rated anew.
CREATE TABLE settle_charging_late (
    session TEXT PRIMARY KEY
);
