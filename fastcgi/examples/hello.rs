//! Written for 1.0.0: `spawn-fcgi -n -s /tmp/hello.sock -- target/debug/examples/hello`.

use std::io::Write;

fn main() {
    fastcgi::run(|mut req| {
        write!(&mut req.stdout(), "Content-Type: text/plain\n\nHello, world!").unwrap_or(());
    });
}
