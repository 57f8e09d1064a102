-- PostgreSQL makes random UUIDs itself, from the same source as uuid-ossp.
CREATE FUNCTION uuid_generate_v4() RETURNS uuid
    LANGUAGE sql VOLATILE STRICT PARALLEL SAFE
    RETURN gen_random_uuid();
