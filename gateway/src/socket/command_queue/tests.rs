use super::*;
use crate::socket::packet::ClientPacket;

#[test]
fn a_client_may_have_only_so_many_commands_waiting() {
    let commands = CommandQueue::new(2);
    let subscribe = || {
        let event = r#"42["subscribe:device","OTSM-1"]"#;
        let Ok(ClientPacket::Event(event)) = ClientPacket::parse(event) else {
            panic!("an event");
        };
        ClientCommand::from_event(&event).expect("a command")
    };
    assert_eq!(commands.push(subscribe()), Ok(()));
    assert_eq!(commands.push(subscribe()), Ok(()));
    assert_eq!(
        commands.push(subscribe()),
        Err(CloseReason::TooManyCommands)
    );
}
