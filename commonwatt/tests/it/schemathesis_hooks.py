"""A signed message is bytes: schemathesis sends them as they are."""
import schemathesis


@schemathesis.serializer("application/cose")
def cose(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode()
