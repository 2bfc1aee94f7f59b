"""What tests share: real servers, a counting proxy, and a store in memory."""
