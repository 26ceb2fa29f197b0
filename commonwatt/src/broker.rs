//! Where gateways and platform meet: the program's own broker, or another one that it is told about.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use runtime::broker::{AccessList, Broker, Limits, Policy};
use runtime::mqtt::MqttOptions;
use runtime::shutdown::Tasks;
use runtime::tls::ServerTls;

use crate::demo::random_password;
use crate::platform;
use crate::site::Site;
use crate::site::mqtt::{Mqtt, OwnBroker};

/// How long the broker may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A broker that can be reached once it is started, and nobody can log in before.
pub(crate) enum Meeting {
    /// Our own, bound.
    Own(Broker, Arc<AccessList>),
    /// Another, and how to reach it.
    Other(MqttOptions),
}

/// Takes the port of a site's own broker, or reads how another one is reached; with the address that
/// gateways are to use.
pub(crate) async fn bind(site: &Site) -> anyhow::Result<(Meeting, String)> {
    match &site.mqtt {
        Mqtt::Own(own) => {
            let (broker, users, address) = bind_own(own).await?;
            Ok((Meeting::Own(broker, users), address))
        }
        Mqtt::Other(broker) => {
            let here = (Ipv4Addr::LOCALHOST, 0).into();
            let client_id = format!("cw-{}-platform", site.community);
            let options = broker.options(platform::broker_options(site, here, ""), client_id)?;
            let address = format!("{}, which is not this program's", broker.address());
            Ok((Meeting::Other(options), address))
        }
    }
}

/// With TLS where gateways come in, and then plainly for the platform alone, on a port of its own that
/// no other computer can reach.
async fn bind_own(own: &OwnBroker) -> anyhow::Result<(Broker, Arc<AccessList>, String)> {
    let Some(files) = own.tls() else {
        let (broker, users) = bind_plainly(own.listen).await?;
        let address = format!("mqtt://{}", broker.local_addr());
        return Ok((broker, users, address));
    };
    let tls = ServerTls::open(&files).context("[mqtt.tls] in the site file")?;
    let (mut broker, users) = bind_plainly((Ipv4Addr::LOCALHOST, 0).into()).await?;
    let address = broker.bind_tls(own.listen, tls).await?;
    Ok((broker, users, format!("mqtts://{address}")))
}

/// Takes a port without TLS.
pub(crate) async fn bind_plainly(listen: SocketAddr) -> anyhow::Result<(Broker, Arc<AccessList>)> {
    let users = Arc::new(AccessList::new());
    let broker = Broker::bind(
        listen,
        Arc::clone(&users) as Arc<dyn Policy>,
        Limits::default(),
    );
    Ok((broker.await?, users))
}

/// Lets the site's gateways in and starts the broker, where it is ours; gives the platform's way to it.
pub(crate) fn start(
    tasks: &mut Tasks,
    meeting: Meeting,
    site: &Site,
) -> anyhow::Result<MqttOptions> {
    let (broker, users) = match meeting {
        Meeting::Own(broker, users) => (broker, users),
        Meeting::Other(options) => return Ok(options),
    };
    let password = random_password()?;
    platform::admit(&users, site, password.as_bytes())?;
    let address = broker.local_addr();
    tasks.start("broker", STOP_LIMIT, |stop| async move {
        broker.run(stop).await;
        Ok::<_, Infallible>(())
    });
    Ok(platform::broker_options(site, address, &password))
}
