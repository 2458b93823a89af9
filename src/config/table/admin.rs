//! `admin`.

use super::*;

keys! {
    ADMIN:

    ADMIN_LISTEN = key(
        "admin.listen", Socket, Value("127.0.0.1:9600"),
        "Where admin listens: a loopback address, or a unix socket, such as \
         unix:/run/forebay/admin.sock, that only forebay's user and root can open. Port 0 takes \
         any free port.",
    );
    ADMIN_TOKEN_FILE = key(
        "admin.token_file", SecretFile,
        Absent {
            example: "\"${CREDENTIALS_DIRECTORY}/admin\"",
            means: "nothing can be changed over TCP, and no message be seen",
        },
        "A file that holds the token which a change over TCP, or a look at the text of dead letters, \
         has to present, and nothing else, but for a newline at the end. Reading anything else needs \
         none, and neither does anything on a unix socket.",
    );
}
